"""Compared sets, floors and chance factors."""

import itertools

import pytest
import torch

from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.evaluation.comparison import (
    DEVIATIONS,
    compare_sets,
    factor,
    mean_energy,
    nearest_ratio,
    num_compared,
    reference_distance,
    subsample,
)
from feller.evaluation.point_metrics import points_quality, reference_energy
from feller.evaluation.report.verdict import judge_numbers
from feller.evaluation.two_sample import energy_distance
from feller.spaces import Sphere


@pytest.fixture(scope="module")
def moons() -> Dataset:
    return read("example:moons").subset(torch.arange(1000))


def first(dataset: Dataset, n: int) -> Dataset:
    return dataset.subset(torch.arange(n))


@pytest.mark.parametrize(
    ("samples", "train", "held_out", "sizes"),
    [
        (300, 1000, 200, (300, 200, 300)),
        (1000, 300, 200, (300, 200, 300)),
        (1000, 300, 49, (1000, 300, None)),
        (1000, 300, 0, (1000, 300, None)),
    ],
)
def test_sizes_of_compared_sets(
    moons: Dataset, samples: int, train: int, held_out: int, sizes: tuple[int, int, int | None]
) -> None:
    parts = first(moons, samples), first(moons, train), first(moons, held_out)
    sets = compare_sets(*parts, Rng(0))
    floor = None if sets.floor is None else len(sets.floor)
    assert (len(sets.samples), len(sets.real), floor) == sizes
    assert num_compared(*parts) == sizes[0]


def test_max_examples(moons: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.evaluation.comparison.MAX_EXAMPLES", 90)
    sets = compare_sets(moons, moons, moons, Rng(0))
    assert len(sets.samples) == len(sets.real) == len(sets.floor) == 90
    assert not torch.equal(sets.samples.values, sets.floor.values)


def test_subsample(moons: Dataset) -> None:
    one, same, other = (subsample(moons, 100, Rng(seed)).values for seed in (0, 0, 1))
    assert len(one.unique(dim=0)) == 100
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert subsample(moons, 1000, Rng(0)) is moons


def test_nearest_ratio_does_not_depend_on_chunks(moons: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    test = read("example:moons/test")
    parts = first(test, 400), moons, test.subset(torch.arange(400, 900))
    whole = nearest_ratio(*parts, Rng(0))
    assert whole == pytest.approx(1, abs=0.25)
    monkeypatch.setattr("feller.evaluation.comparison.MAX_EXAMPLES", 70)
    assert nearest_ratio(*parts, Rng(0)) == pytest.approx(whole, rel=1e-6)


def normal(name: str, *shape: int) -> torch.Tensor:
    return Rng(0).stream(name).normal(shape, torch.float64)


def test_mean_energy() -> None:
    a, b = normal("a", 6, 2), normal("b", 4, 2)
    every = [energy_distance(a[list(rows)], b) for rows in itertools.combinations(range(6), 3)]
    found = mean_energy(torch.cdist(a, b), torch.cdist(a, a), torch.cdist(b, b), 3)
    assert found == pytest.approx(sum(every) / len(every), rel=1e-6)


def test_chance_factor_of_a_mean() -> None:
    """The mean of n normal numbers has a deviation of 1 / sqrt(n); random halves tell it roughly."""

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(a.mean().exp())

    one = normal("x", 400, 1)
    found = [reference_distance(apart, one, one, one, Rng(seed)).factor for seed in range(10)]
    expected = DEVIATIONS * 2**0.5 / 400**0.5  # of a quotient of two
    assert torch.tensor(found).log().mean().item() == pytest.approx(expected, rel=0.3)
    assert factor([1.0]) is None


def places(name: str, n: int, wide: float) -> torch.Tensor:
    """Return points around one of the sphere."""
    at = torch.cat([0.3 * wide * normal(name, n, 2), torch.ones(n, 1, dtype=torch.float64)], 1)
    return Sphere(2).project(at)


@pytest.mark.parametrize("wide", [1.0, 1.15, 1.3])
def test_grades_are_stable(wide: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """68 held out, 609 learned from, and 609 or 400 samples of one law, of eight pairs each."""
    arcs = "feller.evaluation.point_metrics.geodesic_distances"  # the same, at once
    monkeypatch.setattr(arcs, lambda space, a, b: (a @ b.T).clamp(-1, 1).acos())
    said = []
    for i in range(8):
        real, known, pair = places(f"real {i}", 68, 1.0), places(f"known {i}", 609, 1.0), []
        for n in (609, 400):
            found = reference_energy(Sphere(2), places(f"{i} {n}", n, wide), real, known, Rng(n))
            numbers = {"energy_geodesic": found.value, "energy_geodesic_floor": found.floor}
            pair.append(judge_numbers({**numbers, "chance_factor": found.factor}).grade)
        said.append(pair)
    assert not [pair for pair in said if {*pair} == {"Good", "Poor"}], said


def test_floor_is_independent_of_the_number_of_samples() -> None:
    """As many as 609 and 400 of the same real points: the mean over choices is larger by the chance of fewer alone."""
    real, known = places("real", 68, 1.0), places("known", 609, 1.0)
    floors = [reference_energy(Sphere(2), places("s", n, 1.0), real, known, Rng(0)).floor for n in (609, 400)]
    assert floors[0] is not None
    assert floors[1] == pytest.approx(floors[0], rel=0.1)


def test_chance_factor_of_points() -> None:
    board = read("example:checkerboard")
    parts = [board.subset(torch.arange(k, k + 300)) for k in (0, 300, 600)]
    numbers = points_quality(*parts, Rng(0))
    assert 1.05 < numbers["chance_factor"] < 4
    few = points_quality(*parts[:2], parts[2].subset(torch.arange(10)), Rng(0))
    assert few["chance_factor"] is None
