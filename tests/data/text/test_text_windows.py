"""Windows of a long text: where they are, what they share, and that a split never parts them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.rng import Draws
from feller.data.batches import split
from feller.data.modality import Dataset
from feller.data.text import dataset
from feller.data.text.dataset import cut
from feller.data.text.modality import Text
from feller.data.text.vocabulary import Bytes

FAST = settings(deadline=None, max_examples=100, derandomize=True)


@FAST
@given(st.integers(0, 3000), st.integers(1, 60))
def test_windows_are_pieces_of_the_text_and_blocks_share_nothing(n: int, length: int) -> None:
    values, groups = cut(range(n), length)  # each symbol is its own place
    assert values.shape == (len(groups), length)
    assert len(values) == 0 if n < length else len(values) >= 1
    assert (values.diff(dim=1) == 1).all()
    places = [set(values[groups == group].flatten().tolist()) for group in groups.unique()]
    assert sum(map(len, places)) == len(set().union(*places))
    if n >= length:
        assert set().union(*places) == set(range(n))


def test_each_symbol_is_in_four_windows() -> None:
    values, groups = cut(range(100_000), 100)
    seen = torch.bincount(values.flatten(), minlength=100_000)
    assert seen.max() == 4
    assert (seen == 4).double().mean() > 0.9
    assert (seen >= 1).all()
    assert int(groups.max()) == 30  # blocks of 3,200
    assert (groups.bincount()[:-1] == 125).all()


def test_too_many_windows_overlap_less(monkeypatch) -> None:
    monkeypatch.setattr(dataset, "MOST", 3_000)
    values, _ = cut(range(2_000), 100)
    assert values.numel() <= 3_000
    assert (values[1, 0] - values[0, 0]) == 67


def numbered(n: int, length: int) -> Dataset:
    values, groups = cut([i % 256 for i in range(n)], length)
    return Dataset(values, {}, Text(Bytes(), length, documents=False), (), groups)


@FAST
@given(st.integers(100, 4000), st.integers(4, 40), st.floats(0, 0.5), st.integers(0, 3))
def test_groups_are_never_split(n: int, length: int, share: float, seed: int) -> None:
    data = numbered(n, length)
    train, aside = split(data, share, Draws(seed))
    assert len(train) + len(aside) == len(data)
    assert not set(train.groups.tolist()) & set(aside.groups.tolist())
    assert len(train) >= 1
    number, largest = len(data.groups.unique()), int(data.groups.bincount().max())
    if len(data) < 10 or share == 0 or number < 2:
        assert len(aside) == 0
    else:
        assert len(aside) > 0
        assert abs(len(aside) - max(1, round(share * len(data)))) <= largest


def test_a_tenth_of_a_text_is_set_aside_and_its_symbols_are_nowhere_else() -> None:
    values, groups = cut(range(50_000), 50)
    data = Dataset(values, {}, Text(Bytes(), 50, documents=False), (), groups)
    train, aside = split(data)
    assert abs(len(aside) / len(data) - 0.1) < 0.02
    assert not set(train.values.flatten().tolist()) & set(aside.values.flatten().tolist())
    again = split(data)[1]
    assert torch.equal(aside.values, again.values)
    assert not torch.equal(aside.groups.unique(), split(data, 0.1, Draws(5))[1].groups.unique())
    assert (aside.values[:, 0].diff() > 0).all()


def test_subset_carries_groups_along() -> None:
    data = numbered(1000, 10)
    index = torch.tensor([30, 2, 7])
    assert torch.equal(data.subset(index).groups, data.groups[index])
