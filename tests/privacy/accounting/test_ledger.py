"""Ledgers: records, default delta, budget checks and the words for an epsilon."""

import math

import pytest

from feller.core.errors import UsageError
from feller.core.serialization import from_dict, to_dict
from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian, PureDp, ZCdp
from feller.privacy.accounting.ledger import (
    Ledger,
    default_delta,
    describe_weakness,
    format_exp_epsilon,
    format_rounded_up,
)
from feller.privacy.marginals.one_way_error import SmallBudgetWarning, check_budget, one_way_error, one_way_sigma
from tests.errors import numbers, refuses

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


def test_record_round_trip() -> None:
    data = to_dict(WHOLE)
    assert [each["is"] for each in data["events"]] == [
        "GaussianMechanism",
        "ZCdp",
        "PureDp",
        "PoissonSubsampledGaussian",
    ]
    assert from_dict(Ledger, data) == WHOLE


def test_equal_events_are_merged() -> None:
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


def test_describe_events_lists_all_events() -> None:
    lines = WHOLE.describe_events()
    assert len(lines) == 5
    assert all(event.label in line for event, line in zip(WHOLE.events, lines, strict=False))
    assert WHOLE.epsilon() <= WHOLE.epsilon("rdp")


def test_default_delta() -> None:
    assert default_delta(N) == 1e-5
    assert default_delta(10**6) == pytest.approx(10**-6.6)
    with refuses(UsageError, argument="delta"):
        Ledger((), 1 / N, N)
    with pytest.raises(UsageError):
        Ledger((), 1e-5, 0)


@pytest.mark.parametrize(("wanted", "error"), [(1.0, 0.0071), (0.1, 0.060), (0.01, 0.49)])
def test_one_way_error(wanted: float, error: float) -> None:
    sigma = one_way_sigma(wanted, 1e-5, 14)
    assert one_way_error(sigma, COUNTS, N) == pytest.approx(error, rel=0.02)
    if wanted == 1:
        assert sigma == pytest.approx(47.863, rel=1e-4)


def test_check_budget_names_a_sufficient_epsilon(recwarn) -> None:
    assert check_budget(1.0, 1e-5, COUNTS, N) == pytest.approx(0.0071, rel=0.02)
    assert not [one for one in recwarn.list if issubclass(one.category, SmallBudgetWarning)]
    with refuses(UsageError) as caught:
        check_budget(0.01, 1e-5, COUNTS, N)
    with pytest.warns(SmallBudgetWarning):
        assert 0.25 < check_budget(float(numbers(caught.value.remedy)[0]), 1e-5, COUNTS, N) <= 0.3
    for wrong in ((0.0, 1e-5, N), (1.0, 1 / N, N), (1.0, 1e-5, 1)):
        with pytest.raises(UsageError):
            check_budget(wrong[0], wrong[1], COUNTS, wrong[2])


@pytest.mark.parametrize(
    ("epsilon", "said"),
    [
        (1.0, "2.72"),
        (4.0, "54.6"),
        (8.0, "2,990"),
        (math.log(999_999), "1,000,000"),
        (22.0, "3.6 billion"),
        (30.0, "11 trillion"),
        (40.0, "10^18"),
        (2_000.0, "10^869"),
        (math.inf, "any number of"),
    ],
)
def test_format_exp_epsilon(epsilon: float, said: str) -> None:
    assert format_exp_epsilon(epsilon) == said


def test_format_rounded_up_is_an_upper_bound() -> None:
    for i in range(1, 300):
        value = 1.037**i
        assert float(format_rounded_up(value, 2).replace(",", "")) >= value * (1 - 1e-9)


def test_describe_weakness() -> None:
    assert [describe_weakness(epsilon) for epsilon in (4.0, 10.0, 15.0)] == ["", "is weak", "promises next to nothing"]


def test_check_budget_says_that_its_epsilon_is_weak() -> None:
    for epsilon, rows, weak in ((4.0, 52, True), (0.01, 5_000, False)):
        with refuses(UsageError) as caught:
            check_budget(epsilon, 1e-5, (20, 19, 19, 18, 18), rows)
        assert (20 <= float(numbers(caught.value.remedy)[0]) < 30) == weak
        assert (describe_weakness(15.0) in caught.value.remedy) == weak


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
