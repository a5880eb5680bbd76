"""MST and AIM: budget, dependence on the rows, accuracy."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import poisson
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.privacy.marginals import Curator, MarginalMeasurement, MarginalRelease, aim, eliminate, independent, mst
from feller.privacy.marginals.aim import mean_deviation
from tests.errors import refuses
from tests.privacy.marginals.tables import COUNTS, Numbers, model_of, sum_to, table_of

TRUTH = model_of(COUNTS, [(0, 1), (1, 2), (2, 3), (3, 4)])
CODES = TRUTH.sample(3000, Rng(0))
OTHER = model_of(COUNTS, [(0, 4), (4, 2), (2, 1)], 5).sample(3000, Rng(1))
Mechanism = Callable[..., MarginalRelease]
BOTH = pytest.mark.parametrize("mechanism", [mst, aim])


def distance(release: MarginalRelease, codes: Tensor, size: int = 2) -> float:
    """Largest total variation of tables of some columns."""
    joint = table_of(codes, COUNTS) / len(codes)
    return max(
        0.5 * float((release.model.marginal(columns) - sum_to(joint, columns)).abs().sum())
        for columns in itertools.combinations(range(len(COUNTS)), size)
    )


@BOTH
@pytest.mark.parametrize("rho", [1e-3, 0.0305566, 1.7827])
def test_mechanisms_spend_the_budget(mechanism: Mechanism, rho: float) -> None:
    numbers = Numbers(1)
    release = mechanism(CODES, COUNTS, rho, numbers)
    spent = math.fsum(cost for _, cost in release.charges)
    assert rho * (1 - 1e-6) < spent <= rho
    assert len(release.charges) == 3
    asked = math.fsum(0.5 / sigma**2 for sigma, _ in numbers.calls if sigma)
    measured = math.fsum(cost for what, cost in release.charges if what.startswith("counts"))
    assert measured == pytest.approx(asked, rel=1e-12)


def heaviest_tree(weights: dict[tuple[int, int], float]) -> set[tuple[int, int]]:
    def joins(edges: tuple[tuple[int, int], ...]) -> bool:
        part = list(range(5))
        for i, j in edges:
            part = [part[i] if number == part[j] else number for number in part]
        return len(set(part)) == 1

    trees = [edges for edges in itertools.combinations(weights, 4) if joins(edges)]
    return set(max(trees, key=lambda edges: sum(weights[edge] for edge in edges)))


def test_mst_without_noise_finds_the_heaviest_tree() -> None:
    joint = table_of(CODES, COUNTS) / len(CODES)
    alone = [sum_to(joint, [j]) for j in range(5)]
    weights = {
        (i, j): float((sum_to(joint, [i, j]) - torch.outer(alone[i], alone[j])).abs().sum())
        for i, j in itertools.combinations(range(5), 2)
    }
    release = mst(CODES, COUNTS, 1e4, Numbers(scale=0.0))
    pairs = {clique for clique in release.model.cliques if len(clique) == 2}
    assert pairs == heaviest_tree(weights)
    for pair in pairs:
        assert (release.model.marginal(pair) - sum_to(joint, pair)).abs().max() < 1e-4
    for j in range(5):
        assert torch.equal(release.one_way[j], table_of(CODES, COUNTS, [j]))


def test_aim_without_noise_fits_every_pair() -> None:
    release = aim(CODES, COUNTS, 1e4, Numbers(scale=0.0))
    assert distance(release, CODES) < 1e-3


def test_aim_of_degree_three() -> None:
    release = aim(CODES, COUNTS, 1e3, Numbers(2), degree=3)
    assert distance(release, CODES, 3) < 0.01
    assert any(len(clique) == 3 for clique in release.model.cliques)


@BOTH
def test_larger_budget_is_more_accurate(mechanism: Mechanism) -> None:
    far, near = (distance(mechanism(CODES, COUNTS, rho, Numbers(3)), CODES) for rho in (1e-3, 1.0))
    floor = independent(CODES, COUNTS, math.inf, Numbers())
    assert near < 0.5 * far
    assert near < 0.5 * distance(floor, CODES)


@BOTH
def test_release_depends_on_noisy_answers_only(mechanism: Mechanism, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables of one size that share no row's law, answered alike: every byte of the release is equal."""

    def measure(self: Curator, columns: tuple[int, ...], sigma: float, what: str) -> MarginalMeasurement:
        self._charge(what, 0.5 / sigma**2)
        exact = table_of(CODES[:200], COUNTS, columns)
        return MarginalMeasurement(columns, exact + self._noise.discrete_gaussian(sigma, exact.shape), sigma)

    def choose(self: Curator, expected, weights, allowance, epsilon: float, what: str) -> tuple[int, ...]:
        self._charge(what, epsilon**2 / 8)
        return list(expected)[int(len(expected) * self._noise.uniform((1,)))]

    monkeypatch.setattr(Curator, "measure", measure)
    monkeypatch.setattr(Curator, "select_worst", choose)
    noise = Numbers(4), Numbers(4)
    one, two = (mechanism(codes, COUNTS, 0.02, own) for codes, own in zip((CODES, OTHER), noise, strict=True))
    assert noise[0].calls == noise[1].calls
    assert one.charges == two.charges
    assert one.model.cliques == two.model.cliques
    assert all(map(torch.equal, one.model.potentials, two.model.potentials))
    assert all(map(torch.equal, one.one_way, two.one_way))


@BOTH
def test_release_depends_on_the_seed(mechanism: Mechanism) -> None:
    one, two, other = (mechanism(CODES, COUNTS, 0.05, Numbers(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, one.model.potentials, two.model.potentials))
    assert not torch.equal(one.one_way[0], other.one_way[0])


@BOTH
@pytest.mark.parametrize("counts", [(1,), (4,), (1, 1), (1, 3, 1), (2, 2), (5, 1, 2)])
def test_few_columns_and_columns_of_one_level(mechanism: Mechanism, counts: tuple[int, ...]) -> None:
    codes = torch.stack([torch.arange(60) % count for count in counts], 1)
    numbers = Numbers(1)
    release = mechanism(codes, counts, 0.5, numbers)
    assert all(math.prod(shape) > 1 for sigma, shape in numbers.calls if sigma)
    assert [len(values) for values in release.one_way] == list(counts)
    assert all(values.item() == 60 for values in release.one_way if len(values) == 1)
    assert math.fsum(cost for _, cost in release.charges) <= 0.5
    assert release.model.sample(9, Rng(0)).shape == (9, len(counts))


def test_aim_size_limit() -> None:
    room = 60 * 8 / 2**20
    release = aim(CODES, COUNTS, 5.0, Numbers(1), size=room, degree=3)
    assert eliminate(COUNTS, release.model.cliques).cells <= 60
    wide = aim(CODES, COUNTS, 5.0, Numbers(1), degree=3)
    assert eliminate(COUNTS, wide.model.cliques).cells > 60


def test_aim_workload() -> None:
    release = aim(CODES, COUNTS, 5.0, Numbers(1), workload=[(3, 1), (0,)])
    assert {*release.model.cliques} <= {(0,), (1,), (2,), (3,), (4,), (1, 3)}
    assert (1, 3) in release.model.cliques


def test_mst_cells_limit() -> None:
    release = mst(CODES, COUNTS, 1.0, Numbers(1), cells=6)
    assert all(math.prod(COUNTS[j] for j in clique) <= 6 for clique in release.model.cliques)
    assert math.fsum(cost for _, cost in release.charges) <= 1.0


def test_invalid_degree_and_workload() -> None:
    with refuses(UsageError, found="0"):
        aim(CODES, COUNTS, 1.0, Numbers(), degree=0)
    with refuses(UsageError, found="[9]"):
        aim(CODES, COUNTS, 1.0, Numbers(), workload=[(0, 9)])


@pytest.mark.parametrize("rho", [1e-3, 1.0])
def test_independent_spends_the_budget(rho: float) -> None:
    numbers = Numbers(1)
    release = independent(CODES, COUNTS, rho, numbers)
    assert {*release.model.cliques} == {(j,) for j in range(5)}
    ((_, spent),) = release.charges
    assert rho * (1 - 1e-6) < spent <= rho
    assert spent == pytest.approx(math.fsum(0.5 / sigma**2 for sigma, _ in numbers.calls), rel=1e-12)
    one_way = [release.model.marginal([j]) for j in (0, 4)]
    assert (release.model.marginal([0, 4]) - torch.outer(*one_way)).abs().max() < 1e-12


@pytest.mark.parametrize("mechanism", [mst, aim, independent])
def test_infinite_budget_is_exact(mechanism: Mechanism) -> None:
    numbers = Numbers(1)
    release = mechanism(CODES, COUNTS, math.inf, numbers)
    assert not numbers.calls
    for clique in release.model.cliques:
        assert (3000 * release.model.marginal(clique) - table_of(CODES, COUNTS, clique)).abs().max() < 3
    tree = mst(CODES, COUNTS, 1e4, Numbers(scale=0.0)).model.cliques
    assert mechanism is not mst or {*release.model.cliques} == {*tree}


def test_aim_with_infinite_budget_stops_at_sampling_error() -> None:
    codes = model_of(COUNTS, [(0, 1), (1, 2), (2, 3), (3, 4)], 3).sample(3000, Rng(0))
    release = aim(codes, COUNTS, math.inf, Numbers())
    model, counted = release.model, {*release.model.cliques}
    assert {clique for clique in counted if len(clique) == 2} == {(0, 1), (1, 2), (2, 3), (3, 4)}
    for pair in {*itertools.combinations(range(5), 2)} - counted:
        expected = 3000 * model.marginal(pair)
        apart = (table_of(codes, COUNTS, pair) - expected).abs().sum()
        assert apart <= 1.02 * mean_deviation(expected).sum()


def test_mean_deviation() -> None:
    means = torch.tensor([0.0, 1e-9, 0.01, 0.5, 1.0, 2.3, 7.0, 40.2], dtype=torch.float64)
    counts = torch.arange(400)
    for m, found in zip(means.tolist(), mean_deviation(means).tolist(), strict=True):
        assert found == pytest.approx(float(poisson(m).pmf(counts) @ abs(counts.numpy() - m)), rel=1e-6, abs=1e-12)


def test_sigma_of_zero_exceeds_a_finite_budget() -> None:
    with refuses(UsageError, found="inf"):
        Curator(CODES, COUNTS, 1.0, Numbers()).measure((0,), 0.0, "all")
