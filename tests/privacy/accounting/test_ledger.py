"""Ledgers, their records, and budgets that are told to be too small."""

import math

import pytest

from feller.core.errors import UsageError
from feller.core.serialization import from_dict, to_dict
from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.ledger import Ledger, default_delta
from feller.privacy.marginals.one_way_error import check_budget, one_way_error, one_way_sigma
from tests.errors import refuses

N = 32_561
COUNTS = (12,) * 12 + (13,) * 2  # 170 values in 14 columns
WHOLE = Ledger(
    (
        GaussianMechanism("one-way counts", 47.863 / math.sqrt(14)),
        ZCdp("choice of pairs", 0.001),
        PureDp("rows", 0.01),
        PoissonSubsampledGaussian("training", 3.0, 1024 / N, 100),
    ),
    1e-5,
    N,
)


def test_a_ledger_comes_back_from_its_record() -> None:
    data = to_dict(WHOLE)
    assert [each["is"] for each in data["events"]] == [
        "GaussianMechanism",
        "ZCdp",
        "PureDp",
        "PoissonSubsampledGaussian",
    ]
    assert from_dict(Ledger, data) == WHOLE


def test_a_resumed_run_goes_on_in_its_ledger() -> None:
    """Step by step is the same as at once; other noise is another line."""
    ledger = Ledger((), 1e-5, N)
    for _ in range(3):
        ledger = ledger.add(PoissonSubsampledGaussian("training", 3.0, 0.01, 5))
    assert ledger.events == (PoissonSubsampledGaussian("training", 3.0, 0.01, 15),)
    assert ledger.epsilon() == compute_epsilon((PoissonSubsampledGaussian("training", 3.0, 0.01, 15),), 1e-5)
    other = ledger.add(PoissonSubsampledGaussian("training", 2.0, 0.01, 5))
    assert len(other.events) == 2
    assert other.epsilon() > ledger.epsilon()
    again = Ledger((), 1e-5, N).add(GaussianMechanism("counts", 5.0)).add(GaussianMechanism("counts", 5.0))
    assert again.events == (GaussianMechanism("counts", 5.0, times=2),)


def test_all_expenses_are_on_one_page() -> None:
    lines = WHOLE.describe_events()
    assert len(lines) == 5
    assert all(expense.label in line for expense, line in zip(WHOLE.events, lines, strict=False))
    assert f"epsilon {WHOLE.epsilon():.4g} at delta 1e-05, 32,561 rows" in lines[-1]
    assert WHOLE.epsilon() <= WHOLE.epsilon("rdp")


def test_delta_by_default() -> None:
    assert default_delta(N) == 1e-5
    assert default_delta(10**6) == pytest.approx(10**-6.6)
    with refuses(UsageError, argument="delta"):
        Ledger((), 1 / N, N)
    with pytest.raises(UsageError):
        Ledger((), 1e-5, 0)


@pytest.mark.parametrize(("wanted", "error"), [(1.0, 0.0071), (0.1, 0.060), (0.01, 0.49)])
def test_error_of_one_way_counts(wanted: float, error: float) -> None:
    sigma = one_way_sigma(wanted, 1e-5, 14)
    assert one_way_error(sigma, COUNTS, N) == pytest.approx(error, rel=0.02)
    if wanted == 1:
        assert sigma == pytest.approx(47.863, rel=1e-4)


def test_a_budget_that_would_drown_the_table_is_refused_with_one_that_would_not(recwarn) -> None:
    assert check_budget(1.0, 1e-5, COUNTS, N) == pytest.approx(0.0071, rel=0.02)
    assert not [one for one in recwarn.list if issubclass(one.category, UserWarning)]  # others come of garbage
    with pytest.raises(UsageError, match="an epsilon of at least") as caught:
        check_budget(0.01, 1e-5, COUNTS, N)
    enough = float(str(caught.value).split("at least ")[1].split(",")[0])
    with pytest.warns(UserWarning, match="error of about 0"):
        assert 0.25 < check_budget(enough, 1e-5, COUNTS, N) <= 0.3
    for wrong in ((0.0, 1e-5, N), (1.0, 1 / N, N), (1.0, 1e-5, 1)):
        with pytest.raises(UsageError):
            check_budget(wrong[0], wrong[1], COUNTS, wrong[2])


@pytest.mark.parametrize(
    ("kind", "fields", "argument"),
    [
        (GaussianMechanism, {"sigma": 1e-300}, "sigma"),
        (GaussianMechanism, {"sigma": 1e308}, "sigma"),
        (GaussianMechanism, {"sigma": math.nan}, "sigma"),
        (GaussianMechanism, {"sigma": 1.0, "times": 2**70}, "times"),
        (GaussianMechanism, {"sigma": 1.0, "integer_moves": 10**9}, "integer_moves"),
        (GaussianMechanism, {"sigma": 1.0, "integer_moves": -1}, "integer_moves"),
        (PoissonSubsampledGaussian, {"sigma": 1e-300, "rate": 0.1, "steps": 1}, "sigma"),
        (PoissonSubsampledGaussian, {"sigma": 1.0, "rate": 0.1, "steps": 10**12}, "steps"),
        (PoissonSubsampledGaussian, {"sigma": 1.0, "rate": 2.0, "steps": 1}, "rate"),
        (PureDp, {"epsilon": 1e300}, "epsilon"),
        (ZCdp, {"rho": math.inf}, "rho"),
    ],
)
def test_events_out_of_bounds(kind: type, fields: dict[str, float], argument: str) -> None:
    with refuses(UsageError, argument=argument):
        kind("a", **fields)
