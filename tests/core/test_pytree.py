"""Trees of tensors."""

import pytest
import torch

from feller.core.pytree import append_dims, broadcast_time, concatenate, leaves, masked_map, num_examples, tree_map

TREE = {"a": torch.arange(3.0), "deep": {"b": torch.ones(3, 2)}}


def test_tree_map_keeps_the_structure() -> None:
    summed = tree_map(lambda x, y: x + y, TREE, TREE)
    assert summed["a"].tolist() == [0, 2, 4]
    assert summed["deep"]["b"].shape == (3, 2)
    assert tree_map(torch.neg, torch.ones(2)).tolist() == [-1, -1]


def test_tree_map_refuses_a_missing_leaf() -> None:
    with pytest.raises(KeyError):
        tree_map(lambda x, y: x, TREE, {"a": 1})


def test_leaves_and_num_examples() -> None:
    assert [leaf.ndim for leaf in leaves(TREE)] == [1, 2]
    assert num_examples(TREE) == num_examples(torch.zeros(3)) == 3


def test_broadcast_time() -> None:
    t = torch.rand(3)
    times = broadcast_time(t, TREE)
    assert times["a"] is t
    assert times["deep"]["b"] is t
    own = {"a": t, "deep": {"b": torch.ones(3)}}
    assert broadcast_time(own, TREE) is own
    assert broadcast_time(t, torch.zeros(3)) is t


def test_concatenate() -> None:
    twice = concatenate(TREE, TREE)
    assert twice["a"].tolist() == [0, 1, 2, 0, 1, 2]
    assert twice["deep"]["b"].shape == (6, 2)


def test_append_dims_broadcasts_along_the_batch() -> None:
    """A time [b] on data [b, b] must not broadcast along the second axis."""
    t = torch.arange(3.0)
    assert (append_dims(t, torch.zeros(3, 3)) * torch.ones(3, 3))[:, 0].tolist() == [0, 1, 2]
    assert append_dims(t, torch.zeros(3)).shape == (3,)
    assert append_dims(torch.tensor(2.0), torch.zeros(3, 4)).shape == (1, 1)
    assert append_dims(torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, 2, 5)).shape == (3, 2, 1)


def test_masks_apply_per_leaf_to_all_leaves_or_not_at_all() -> None:
    common = torch.tensor([True, False, True])
    seen = masked_map(lambda marks, leaf: marks, common, TREE)
    assert seen["a"] is common
    assert seen["deep"]["b"] is common
    seen = masked_map(lambda marks, leaf: marks, {"deep": {"b": common}}, TREE)
    assert seen["a"] is None
    assert seen["deep"]["b"] is common
    assert masked_map(lambda marks, leaf: marks, None, TREE)["a"] is None
    assert masked_map(lambda marks, leaf: marks, common, torch.zeros(3)) is common
