"""Curator: measurements, selections, charges."""

import math

import pytest
import torch
from scipy import stats

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.privacy.marginals import Curator
from feller.privacy.marginals.curator import epsilon_for, sigma_for
from tests.errors import refuses
from tests.privacy.marginals.tables import COUNTS, Numbers, model_of, table_of

CODES = model_of(COUNTS, [(0, 1, 2), (2, 3, 4)]).sample(200, Rng(0))


def test_measure_without_noise() -> None:
    curator = Curator(CODES, COUNTS, 1.0, Numbers(scale=0.0))
    for columns in ((3,), (0, 2), (4, 1, 0)):
        assert torch.equal(curator.measure(columns, 5.0, "test").values, table_of(CODES, COUNTS, columns))


def test_measure_adds_discrete_gaussian_noise() -> None:
    curator, twin = Curator(CODES, COUNTS, 1.0, Numbers(3)), Numbers(3)
    found = curator.measure((0, 2), 7.5, "test")
    assert torch.equal(found.values, table_of(CODES, COUNTS, (0, 2)) + twin.discrete_gaussian(7.5, (2, 4)))
    assert found.sigma == 7.5


def test_charges_of_measurements_and_choices() -> None:
    curator = Curator(CODES, COUNTS, 1.0, Numbers())
    curator.measure((0,), 2.0, "counts")
    curator.measure((1,), 1.0 / math.sqrt(0.5), "counts")
    curator.select_worst({(0,): torch.zeros(2).double()}, {(0,): 1.0}, {(0,): 0.0}, 0.4, "choice")
    assert dict(curator.charges) == pytest.approx({"counts": 0.125 + 0.25, "choice": 0.02})
    assert curator.rho_spent == pytest.approx(0.395)
    with refuses(UsageError, found="2.395"):
        curator.measure((0,), 0.5, "counts")
    assert curator.rho_spent == pytest.approx(0.395)


@pytest.mark.parametrize("times", [1, 7, 14, 200])
@pytest.mark.parametrize("rho", [1e-4, 0.0305566, 1.7827, 30.0])
def test_sigma_and_epsilon_use_the_whole_budget(rho: float, times: int) -> None:
    assert rho * (1 - 1e-9) < math.fsum([0.5 / sigma_for(rho, times) ** 2] * times) <= rho
    assert rho * (1 - 1e-9) < math.fsum([epsilon_for(rho, times) ** 2 / 8] * times) <= rho


def test_select_worst_is_the_exponential_mechanism() -> None:
    """p(c) ~ exp(epsilon score / (2 largest weight)); fails a right program once in a million."""
    weights = {(0,): 1.0, (3,): 0.5, (4,): 0.25}
    allowance = {(0,): 3.0, (3,): 0.0, (4,): 10.0}
    expected = {columns: table_of(CODES, COUNTS, columns) for columns in weights}
    for columns, off in (((0,), 12.0), ((3,), 10.0), ((4,), 30.0)):
        expected[columns][0] += off
    scores = torch.tensor([1.0 * (12 - 3), 0.5 * 10, 0.25 * (30 - 10)])
    odds = (0.3 * scores / 2).softmax(0)
    curator, chosen = Curator(CODES, COUNTS, 1e9, Numbers(5)), [0, 0, 0]
    for _ in range(4000):
        chosen[list(weights).index(curator.select_worst(expected, weights, allowance, 0.3, "test"))] += 1
    assert stats.chisquare(chosen, 4000 * odds.double().numpy() / odds.double().sum().item()).pvalue > 1e-6


def test_invalid_arguments() -> None:
    for rho in (0.0, -1.0, math.nan):
        with refuses(UsageError, argument="rho"):
            Curator(CODES, COUNTS, rho, Numbers())
    with refuses(InputError, found="none"):
        Curator(CODES[:0], COUNTS, 1.0, Numbers())
    with refuses(InputError, expected="codes from 0 to 1 in column 4", found="2 in row 0"):
        Curator(CODES + 1, COUNTS, 1.0, Numbers())
