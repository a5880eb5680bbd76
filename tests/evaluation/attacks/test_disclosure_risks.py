"""Singling out, linkability and inference: found in copies, not in independent samples."""

import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from feller.core.rng import Rng
from feller.evaluation.attacks.coded_tables import CodedTables
from feller.evaluation.attacks.disclosure_risks import RISKS, closeness, disclosure_risks
from feller.evaluation.attacks.neighbour_attacks import inference_hits, linkability_risk
from feller.evaluation.attacks.risk import ELEVATED, HIGH, LOW, UNMEASURED, Risk
from feller.evaluation.attacks.singling_out import (
    Condition,
    Predicate,
    isolation_probability,
    multivariate_predicates,
    univariate_predicates,
)

COUNTS = (20, 20, 12, 8, 5, 4, 3, 2)
ORDERED = (True, True, True, False, False, False, False, False)
MISSING = (False, True, False, False, False, False, False, False)


def rows(seed: int, n: int) -> np.ndarray:
    """Draw rows whose columns depend on a common factor."""
    rng = np.random.default_rng(seed)
    factor = rng.random(n)
    return np.stack([((0.5 * factor + 0.5 * rng.random(n)) * count).astype(int) for count in COUNTS], 1)


def tables(synthetic: np.ndarray, train: np.ndarray, unseen: np.ndarray) -> CodedTables:
    return CodedTables(synthetic, train, unseen, COUNTS, ORDERED, MISSING)


def case(seed: int, *, copies: bool, n: int = 600, m: int = 150) -> CodedTables:
    rng, train = np.random.default_rng(1_000 + seed), rows(3 * seed, n)
    synthetic = train[rng.integers(n, size=n)] if copies else rows(3 * seed + 2, n)
    return tables(synthetic, train, rows(3 * seed + 1, m))


@pytest.mark.parametrize("seed", range(20))
def test_copies_are_found(seed: int) -> None:
    found = disclosure_risks(case(seed, copies=True), Rng(seed))
    levels = {name: found.risks[name].level for name in RISKS}
    assert levels["singling_out"] == levels["inference"] == HIGH
    assert levels["linkability"] in (ELEVATED, HIGH)
    assert found.risks["singling_out_multivariate"].value > 0.4
    assert all(found.risks[name].is_meaningful for name in RISKS)


def test_independent_samples_are_not() -> None:
    """Thirty tables: each lower end is above 0 with probability 0.025, in 4 or more of 30 with 0.007."""
    false_alarms, values = dict.fromkeys(RISKS, 0), {name: [] for name in RISKS}
    for seed in range(30):
        found = disclosure_risks(case(100 + seed, copies=False), Rng(seed))
        for name in RISKS:
            false_alarms[name] += found.risks[name].level in (ELEVATED, HIGH)
            values[name].append(found.risks[name].value)
    assert max(false_alarms.values()) <= 3, false_alarms
    for name in ("linkability", "inference"):
        assert abs(np.mean(values[name])) < 4 * np.std(values[name]) / math.sqrt(30)


def test_a_part_of_copies_is_found_in_part() -> None:
    """A third of the samples are copies: risks lie between none and that of copies."""
    full, none = case(7, copies=True), case(7, copies=False)
    part = tables(np.concatenate([full.synthetic[:200], none.synthetic[:400]]), full.train, full.unseen)
    values = [disclosure_risks(it, Rng(0)).risks["inference"].value for it in (none, part, full)]
    assert values[0] < values[1] < values[2]


def test_too_few_rows() -> None:
    it = case(0, copies=True, m=49)
    assert disclosure_risks(it, Rng(0)).risks == {}
    numbers = disclosure_risks(it, Rng(0)).numbers(None, 0.0)
    assert {numbers[f"{name}_level"] for name in RISKS} == {UNMEASURED}
    assert closeness(it, Rng(0)) == {}


def test_risk_of_the_paper() -> None:
    """(r_train - r_control) / (1 - r_control), with the interval of the difference."""
    risk = Risk(0.6, 0.2, 0.1, 100, 100)
    assert risk.value == pytest.approx(0.5)
    low, high = risk.interval
    assert 0.3 < low < 0.5 < high < 0.7
    assert risk.level == HIGH
    assert Risk(0.21, 0.2, 0.1, 100, 100).level == LOW
    below = Risk(0.1, 0.3, 0.05, 1_000, 1_000)
    assert below.interval[1] < 0
    assert below.level == LOW
    assert Risk(0.25, 0.2, 0.1, 10_000, 10_000).level == ELEVATED
    assert not Risk(0.1, 0.1, 0.1, 100, 100).is_meaningful
    assert Risk(0.1, 0.05, 0.0, 100, 100, scale=4.0).value == pytest.approx(4 * 0.05 / 0.95)


def test_bound_of_the_guarantee() -> None:
    """Randomised response at epsilon reaches the bound at the control rate 1 / (1 + e^epsilon)."""
    control, n = 1 / (1 + math.e), 10**9
    risk = Risk(1 - control, control, 0.0, n, n)
    assert risk.bound(1.0, 0.0) == pytest.approx(risk.value, abs=1e-3)
    assert risk.bound(0.0, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert risk.bound(1_000.0, 0.0) == pytest.approx(1.0)
    assert Risk(0.0, 0.0, 0.0, 100, 100).bound(1.0, 0.0) == pytest.approx((math.e - 1) * 0.0370, abs=1e-3)


@pytest.mark.parametrize("matches", [0, 1, 2, 5, 8, 10])
def test_isolation_probability(matches: int) -> None:
    expected = hypergeom(10, matches, 3).pmf(1)
    assert isolation_probability(np.array([matches]), 10, 3)[0] == pytest.approx(expected, abs=1e-9)


def test_predicates_single_out_one_synthetic_row() -> None:
    it = case(1, copies=False)
    predicates = multivariate_predicates(it, Rng(0))
    assert len(set(predicates)) == len(predicates) > 100
    for predicate in (*univariate_predicates(it), *predicates):
        assert predicate.matches(it.synthetic).sum() == 1


def test_conditions_do_not_mix_missing_cells_with_large_numbers() -> None:
    it = case(1, copies=False)
    for predicate in multivariate_predicates(it, Rng(0)):
        for condition in predicate.conditions:
            if condition.column == 1:
                assert condition.high < COUNTS[1] - 1 or condition.low == COUNTS[1] - 1
    mask = Predicate((Condition(0, 3, 5), Condition(3, 1, 1))).matches(
        np.array([[3, 0, 0, 1], [6, 0, 0, 1], [5, 0, 0, 2]])
    )
    assert mask.tolist() == [True, False, False]


def test_distances() -> None:
    it = tables(np.array([[0, 19, 0, 0, 0, 0, 0, 0]]), rows(0, 60), rows(1, 60))
    other = np.array([[19, 19, 0, 0, 0, 0, 0, 0], [0, 18, 0, 0, 0, 0, 0, 0], [0, 19, 0, 7, 0, 0, 0, 1]])
    assert it.distances(other, tuple(range(8)))[:, 0].tolist() == [1, 1, 2]  # code 19 of the second column is missing


def test_inference_of_copied_rows_is_always_right() -> None:
    it = tables(rows(0, 300), rows(0, 300), rows(1, 60))
    unique = np.unique(it.train, axis=0, return_counts=True)[1].min()
    assert unique == 1
    assert inference_hits(it, it.train, Rng(0)).mean() > 0.9
    assert inference_hits(it, it.unseen, Rng(0)).mean() < 0.6


def test_linkability_without_information() -> None:
    """If every synthetic row is equally near, both halves agree with probability 1 / n."""
    constant = np.zeros((50, 8), int)
    risk = linkability_risk(tables(constant, rows(0, 400), rows(1, 400)), Rng(0))
    assert risk is not None
    assert risk.attack == pytest.approx(1 / 50, abs=0.03)
    assert risk.naive == pytest.approx(1 / 50)


def test_closeness() -> None:
    inside = 0
    for seed in range(20):
        found = closeness(case(seed, copies=False), Rng(seed))
        inside += found["dcr_null_low"] <= found["dcr_share"] <= found["dcr_null_high"]
        copied = closeness(case(seed, copies=True), Rng(seed))
        assert copied["dcr_share"] > copied["dcr_null_high"]
    assert inside >= 16  # of 20 with probability 0.95 each


@pytest.mark.parametrize(("attack", "control"), [(0.3, 0.3), (0.1, 0.12), (0.35, 0.3)])
def test_wide_intervals_are_not_measured(attack: float, control: float) -> None:
    """The stated number of guesses decides the level, and one guess fewer does not."""
    few = Risk(attack, control, 0.1, 15, 15)
    low, high = few.interval
    assert low < 0 < 0.2 < high
    assert few.level == UNMEASURED
    needed = few.needed_guesses
    assert needed > 15
    levels = [Risk(attack, control, 0.1, n, n).level for n in (needed - 1, needed)]
    assert levels[0] == UNMEASURED
    assert levels[1] in (LOW, ELEVATED)
    assert few.with_prefix("linkability")["linkability_needed"] == needed
    decided = Risk(attack, control, 0.1, needed, needed)
    assert decided.needed_guesses == 0
    assert "linkability_needed" not in decided.with_prefix("linkability")
