import pytest
import torch

from feller.core.rng import Draws
from feller.data.loading.read import read
from feller.data.modality import Dataset
from feller.evaluation.comparison import compare, compared, nearest_ratio, pick


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
def test_samples_and_floor_have_equal_sizes(
    moons: Dataset, samples: int, train: int, held_out: int, sizes: tuple[int, int, int | None]
) -> None:
    parts = first(moons, samples), first(moons, train), first(moons, held_out)
    sets = compare(*parts, Draws(0))
    floor = None if sets.floor is None else len(sets.floor)
    assert (len(sets.samples), len(sets.real), floor) == sizes
    assert compared(*parts) == sizes[0]


def test_too_many_are_cut(moons: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.evaluation.comparison.MOST", 90)
    sets = compare(moons, moons, moons, Draws(0))
    assert sets.floor is not None
    assert len(sets.samples) == len(sets.real) == len(sets.floor) == 90
    assert not torch.equal(sets.samples.values, sets.floor.values)


def test_pick_takes_different_examples_anew_for_each_seed(moons: Dataset) -> None:
    one, same, other = (pick(moons, 100, Draws(seed)).values for seed in (0, 0, 1))
    assert len(one.unique(dim=0)) == 100
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert pick(moons, 1000, Draws(0)) is moons


def test_nearest_ratio_does_not_depend_on_chunks(moons: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    test = read("example:moons/test")
    parts = first(test, 400), moons, test.subset(torch.arange(400, 900))
    whole = nearest_ratio(*parts, Draws(0))
    assert whole == pytest.approx(1, abs=0.25)
    monkeypatch.setattr("feller.evaluation.comparison.MOST", 70)
    assert nearest_ratio(*parts, Draws(0)) == pytest.approx(whole, rel=1e-6)
