"""Batches: every example once an epoch, whatever the size and the number of processes."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.data.batches import batches
from feller.data.loading.raw import FoundRows
from feller.data.modality import Dataset
from feller.data.points.points import points

FAST = settings(deadline=None, max_examples=40, derandomize=True)


def numbered(n: int) -> Dataset:
    data = points(FoundRows(np.arange(n, dtype=float)[:, None]))
    return Dataset(data.values, {"label": torch.arange(n)}, data.modality)


@FAST
@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 5))
def test_every_example_once_an_epoch(n: int, size: int, seed: int) -> None:
    data = numbered(n)
    batch = batches(data, size, Draws(seed))
    steps = -(-3 * n // size)
    got = [batch(step, slice(0, size)) for step in range(steps)]
    assert all(len(piece["x_1"]) == size for piece in got)
    order = torch.cat([piece["given"]["label"] for piece in got])
    for epoch in range(3):
        assert order[epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))
    states = torch.cat([piece["x_1"] for piece in got])
    assert torch.equal(states, data.modality.encode(data.values)[order])


@FAST
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 5), st.integers(0, 20))
def test_processes_share_the_batch_of_one(n: int, size: int, ranks: int, step: int) -> None:
    data = numbered(n)
    alone = batches(data, size, Draws(0))(step, slice(0, size))
    cuts = [size * rank // ranks for rank in range(ranks + 1)]
    parts = [batches(data, size, Draws(0, first=a, total=size))(step, slice(a, b)) for a, b in pairwise(cuts)]
    assert torch.equal(torch.cat([part["x_1"] for part in parts]), alone["x_1"])
    assert torch.equal(torch.cat([part["given"]["label"] for part in parts]), alone["given"]["label"])
    strided = batches(data, size, Draws(0))(step, slice(1, None, 2))
    assert torch.equal(strided["given"]["label"], alone["given"]["label"][1::2])


def test_steps_can_be_asked_in_any_order() -> None:
    batch = batches(numbered(7), 3, Draws(1))
    forward = [batch(step, slice(0, 3))["given"]["label"].tolist() for step in range(9)]
    assert [batch(step, slice(0, 3))["given"]["label"].tolist() for step in reversed(range(9))] == forward[::-1]


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = {
        tuple(batches(numbered(50), 50, Draws(seed))(step, slice(0, 50))["given"]["label"].tolist())
        for seed in (0, 1)
        for step in (0, 1)
    }
    assert len(orders) == 4


def test_large_data_are_encoded_by_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbered(20)
    whole = batches(data, 8, Draws(0))(3, slice(2, 7))
    monkeypatch.setattr(sys.modules["feller.data.batches"], "MEMORY", 10)
    assert torch.equal(batches(data, 8, Draws(0))(3, slice(2, 7))["x_1"], whole["x_1"])


def test_nothing_to_cut_is_refused() -> None:
    data = numbered(3)
    with pytest.raises(InputError, match="at least one example"):
        batches(data.subset(torch.tensor([], dtype=torch.long)), 2, Draws(0))
    with pytest.raises(UsageError, match="at least 1 example"):
        batches(data, 0, Draws(0))


@FAST
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
def test_like_lengths_come_together_and_every_example_once_an_epoch(n: int, size: int, seed: int) -> None:
    data = numbered(n)
    lengths = torch.randint(1, 100, (n,), generator=torch.Generator().manual_seed(seed))
    batch = batches(data, size, Draws(seed), lengths)
    got = [batch(step, slice(0, size))["given"]["label"] for step in range(-(-3 * n // size))]
    order = torch.cat(got)
    for epoch in range(3):
        assert order[epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))


def test_padding_is_saved_where_like_lengths_come_together() -> None:
    n, size = 640, 8
    lengths = torch.randint(1, 100, (n,), generator=torch.Generator().manual_seed(0))

    def width(alike: torch.Tensor | None) -> float:
        batch = batches(numbered(n), size, Draws(0), alike)
        rows = [lengths[batch(step, slice(0, size))["given"]["label"]].max() for step in range(n // size)]
        return torch.stack(rows).double().mean().item()

    assert width(lengths) < 60 < 85 < width(None)
    batch = batches(numbered(n + 3), size, Draws(0), torch.cat([lengths, lengths[:3]]))
    whole = torch.cat([lengths, lengths[:3]])
    later = [whole[batch(step, slice(0, size))["given"]["label"]].max() for step in range(90, 160)]
    assert torch.stack(later).double().mean() < 62  # also where an epoch begins inside a batch
