"""Batches, prefetching and held-out splits."""

import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.batches import Prefetcher, batch_loader, split
from feller.data.loading.raw import RawPoints
from feller.data.modality import Dataset
from feller.data.points.euclidean_points import points_dataset
from tests.errors import refuses

FAST = settings(deadline=None, max_examples=40, derandomize=True)


def numbered(n: int) -> Dataset:
    data = points_dataset(RawPoints(np.arange(n, dtype=float)[:, None]))
    return Dataset(data.values, {"label": torch.arange(n)}, data.modality)


@FAST
@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 5), st.booleans())
def test_every_example_once_per_epoch(n: int, size: int, seed: int, by_length: bool) -> None:
    data = numbered(n)
    lengths = torch.randint(1, 100, (n,), generator=torch.Generator().manual_seed(seed)) if by_length else None
    batch = batch_loader(data, size, Rng(seed), lengths)
    steps = -(-3 * n // size)
    batches = [batch(step, slice(0, size)) for step in range(steps)]
    assert all(len(piece["x_1"]) == size for piece in batches)
    order = torch.cat([piece["given"]["label"] for piece in batches])
    for epoch in range(3):
        assert order[epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))
    states = torch.cat([piece["x_1"] for piece in batches])
    assert torch.equal(states, data.modality.encode(data.values)[order])


@FAST
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 5), st.integers(0, 20))
def test_batches_do_not_depend_on_rank_count(n: int, size: int, ranks: int, step: int) -> None:
    data = numbered(n)
    alone = batch_loader(data, size, Rng(0))(step, slice(0, size))
    cuts = [size * rank // ranks for rank in range(ranks + 1)]
    parts = [
        batch_loader(data, size, Rng(0, first_example=a, global_batch_size=size))(step, slice(a, b))
        for a, b in pairwise(cuts)
    ]
    assert torch.equal(torch.cat([part["x_1"] for part in parts]), alone["x_1"])
    assert torch.equal(torch.cat([part["given"]["label"] for part in parts]), alone["given"]["label"])
    strided = batch_loader(data, size, Rng(0))(step, slice(1, None, 2))
    assert torch.equal(strided["given"]["label"], alone["given"]["label"][1::2])


def test_batches_do_not_depend_on_order_of_steps() -> None:
    batch = batch_loader(numbered(7), 3, Rng(1))
    forward = [batch(step, slice(0, 3))["given"]["label"].tolist() for step in range(9)]
    assert [batch(step, slice(0, 3))["given"]["label"].tolist() for step in reversed(range(9))] == forward[::-1]


def test_order_depends_on_epoch_and_seed() -> None:
    orders = {
        tuple(batch_loader(numbered(50), 50, Rng(seed))(step, slice(0, 50))["given"]["label"].tolist())
        for seed in (0, 1)
        for step in (0, 1)
    }
    assert len(orders) == 4


def test_batchwise_encoding_equals_encoding_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbered(20)
    whole = batch_loader(data, 8, Rng(0))(3, slice(2, 7))
    monkeypatch.setattr(sys.modules["feller.data.batches"], "MAX_ENCODED_BYTES", 10)
    assert torch.equal(batch_loader(data, 8, Rng(0))(3, slice(2, 7))["x_1"], whole["x_1"])


def test_empty_data_and_batches_are_refused() -> None:
    data = numbered(3)
    with refuses(InputError, found="none"):
        batch_loader(data.subset(torch.tensor([], dtype=torch.long)), 2, Rng(0))
    with refuses(UsageError, argument="size", found="0"):
        batch_loader(data, 0, Rng(0))


def test_batches_of_similar_lengths_save_padding() -> None:
    n, size = 640, 8
    lengths = torch.randint(1, 100, (n,), generator=torch.Generator().manual_seed(0))

    def width(alike: torch.Tensor | None) -> float:
        batch = batch_loader(numbered(n), size, Rng(0), alike)
        rows = [lengths[batch(step, slice(0, size))["given"]["label"]].max() for step in range(n // size)]
        return torch.stack(rows).double().mean().item()

    assert width(lengths) < 60 < 85 < width(None)
    batch = batch_loader(numbered(n + 3), size, Rng(0), torch.cat([lengths, lengths[:3]]))
    whole = torch.cat([lengths, lengths[:3]])
    later = [whole[batch(step, slice(0, size))["given"]["label"]].max() for step in range(90, 160)]
    assert torch.stack(later).double().mean() < 62  # also where an epoch begins inside a batch


ROWS = slice(0, 4)


def test_next_batch_is_prefetched():
    started = {step: threading.Event() for step in range(8)}

    def read(step, rows):
        started[step].set()
        return step, rows.stop

    feed = Prefetcher(read)
    assert feed(0, ROWS) == (0, 4)
    assert started[1].wait(10)
    assert feed(3, ROWS) == (3, 4)  # every third step, as where examples serve several
    assert started[6].wait(10)
    assert feed(1, slice(2, 3)) == (1, 3)


def test_prefetch_error_is_raised_with_its_batch():
    def read(step, rows):
        if step == 1:
            raise InputError("damaged")
        return step

    feed = Prefetcher(read)
    assert feed(0, ROWS) == 0
    with refuses(InputError):
        feed(1, ROWS)
    assert feed(2, ROWS) == 2


def labelled(labels: list[int]) -> Dataset:
    data = points_dataset(RawPoints(np.arange(len(labels), dtype=float)[:, None]))
    return Dataset(data.values, {"label": torch.tensor(labels)}, data.modality)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=120), st.floats(0, 0.5), st.integers(0, 3))
def test_split_is_complete_and_stratified(labels: list[int], share: float, seed: int) -> None:
    data, n = labelled(labels), len(labels)
    train, aside = split(data, share, Rng(seed))
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


def test_split_depends_on_seed() -> None:
    data = points_dataset(RawPoints(np.arange(100.0)[:, None]))
    first, repeated, other = (split(data, 0.2, Rng(seed))[1].values for seed in (1, 1, 2))
    assert torch.equal(first, repeated)
    assert not torch.equal(first, other)


def test_only_example_of_a_class_is_in_training() -> None:
    train, aside = split(labelled([0] * 50 + [1]), 0.2, Rng(0))
    assert 1 in train.given["label"]
    assert len(aside) == 10


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_out_of_range_are_refused(fraction: float) -> None:
    with refuses(UsageError, argument="held_out"):
        split(labelled([0] * 20), fraction, Rng(0))
