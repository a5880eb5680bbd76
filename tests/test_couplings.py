"""Which source draw meets which datum."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.couplings import Independent, MinibatchTransport, WithinClasses, assign
from feller.draws import Draws

X_0 = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
X_1 = torch.tensor([[1.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
DRAW = Draws(0).at("coupling")


def test_the_vector() -> None:
    """Cost 7, where the identity costs 17; two permutations have it: sources (2, 0, 1) or (0, 2, 1)."""
    assert assign(X_0, X_1).tolist() in ([2, 0, 1], [0, 2, 1])
    x_0 = MinibatchTransport()(X_0, X_1, {}, DRAW)
    assert (x_0 - X_1).square().sum().item() == 7
    assert (X_0 - X_1).square().sum().item() == 17


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4))
def test_no_other_permutation_is_cheaper(seed: int, n: int, d: int) -> None:
    x_0, x_1 = (Draws(seed).at(name).normal((n, d)) for name in ("a", "b"))
    ours = (x_0[assign(x_0, x_1)] - x_1).square().sum()
    best = min((x_0[list(p)] - x_1).square().sum() for p in itertools.permutations(range(n)))
    assert ours <= best + 1e-5


def test_blocks_do_not_look_at_each_other() -> None:
    x_0, x_1 = (Draws(1).at(name).normal((10, 2)) for name in ("a", "b"))
    whole = MinibatchTransport(4)(x_0, x_1, {}, DRAW)
    parts = [MinibatchTransport(None)(x_0[i : i + 4], x_1[i : i + 4], {}, DRAW) for i in (0, 4, 8)]
    assert torch.equal(whole, torch.cat(parts))


def test_leaves_of_a_tree_travel_together() -> None:
    x_0 = {"a": torch.arange(4.0)[:, None], "b": torch.arange(4)}
    x_1 = {"a": torch.tensor([[3.0], [2.0], [1.0], [0.0]]), "b": torch.zeros(4, dtype=torch.long)}
    x_0["b"] = x_0["b"][:, None]
    x_1["b"] = x_1["b"][:, None]
    moved = MinibatchTransport()(x_0, x_1, {}, DRAW)
    assert moved["a"][:, 0].tolist() == moved["b"][:, 0].tolist() == [3, 2, 1, 0]


def test_within_classes_keeps_the_source_independent_of_the_class() -> None:
    """Each class keeps the source draws that came with it, where transport over the whole batch would trade them."""
    x_0 = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    x_1 = torch.tensor([[9.0], [8.0], [1.0], [0.0]])
    label = torch.tensor([0, 0, 1, 1])
    assert WithinClasses()(x_0, x_1, {"label": label}, DRAW)[:, 0].tolist() == [1, 0, 3, 2]
    assert MinibatchTransport()(x_0, x_1, {}, DRAW)[:, 0].tolist() == [3, 2, 1, 0]
    assert x_0[:, 0].tolist() == [0, 1, 2, 3]


def test_within_classes_needs_the_class() -> None:
    with pytest.raises(KeyError, match="label"):
        WithinClasses()(X_0, X_1, {}, DRAW)


def test_who_shares_rows_says_so() -> None:
    assert not Independent().shares_rows
    assert MinibatchTransport().shares_rows
    assert WithinClasses(Independent()).shares_rows  # it looks at labels of others only to sort; refused all the same
