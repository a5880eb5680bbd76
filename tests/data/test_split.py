"""Examples set aside: how many, of which class, and always the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.data.batches import split
from feller.data.loading.raw import FoundRows
from feller.data.modality import Dataset
from feller.data.points.points import points


def numbered(labels: list[int]) -> Dataset:
    data = points(FoundRows(np.arange(len(labels), dtype=float)[:, None]))
    return Dataset(data.values, {"label": torch.tensor(labels)}, data.modality)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=120), st.floats(0, 0.5), st.integers(0, 3))
def test_parts_are_whole_and_stratified(labels: list[int], share: float, seed: int) -> None:
    data, n = numbered(labels), len(labels)
    train, aside = split(data, share, Draws(seed))
    assert sorted(train.values[:, 0].tolist() + aside.values[:, 0].tolist()) == list(range(n))
    assert len(aside) == (0 if n < 10 or share == 0 else max(1, round(share * n)))
    for part in (train, aside):
        rows = part.values[:, 0].long()
        assert torch.equal(part.given["label"], data.given["label"][rows])
        assert (rows.diff() > 0).all()
    if len(aside) > 1:
        for label in set(labels):
            expected = len(aside) * labels.count(label) / n
            assert abs(int((aside.given["label"] == label).sum()) - expected) <= 2.5  # half of one per class


def test_same_seed_same_parts() -> None:
    data = points(FoundRows(np.arange(100.0)[:, None]))
    first, again, other = (split(data, 0.2, Draws(seed))[1].values for seed in (1, 1, 2))
    torch.rand(3)  # what others draw does not matter
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_only_example_of_a_class_is_trained_on() -> None:
    train, aside = split(numbered([0] * 50 + [1]), 0.2, Draws(0))
    assert 1 in train.given["label"]
    assert len(aside) == 10


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_out_of_range(share: float) -> None:
    with pytest.raises(UsageError, match="expected a share"):
        split(numbered([0] * 20), share, Draws(0))
