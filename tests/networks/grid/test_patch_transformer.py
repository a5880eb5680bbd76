"""Transformer over patches of grids of one, two or three dimensions."""

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import PatchTransformer
from feller.networks.grid.patch_transformer import grid_positions, patchify, unpatchify
from feller.networks.image.dit import sincos_positions
from tests.errors import refuses

F64 = torch.float64


def test_other_settings_are_refused() -> None:
    for settings in ({"patch": 0}, {"width": 30, "heads": 4}, {"width": 3, "heads": 1}):
        with refuses(UsageError):
            PatchTransformer(**settings)


@pytest.mark.parametrize("shape", [(6, 2), (6, 4, 2), (6, 4, 2, 1)])
def test_patches_of_known_entries(shape: tuple[int, ...]) -> None:
    """Each patch holds the block of entries that slices select, and joining the patches gives the grid back."""
    x, patches = Rng(1).stream("x").normal((3, *shape), F64), (3, 2, 1)[: len(shape) - 1]
    tokens, counts = patchify(x, patches)
    assert counts == [side // p for side, p in zip(shape, patches, strict=False)]
    last = x[(slice(None), *(slice(side - p, side) for side, p in zip(shape, patches, strict=False)))]
    assert torch.equal(tokens[:, -1], last.flatten(1))
    assert torch.equal(unpatchify(tokens, patches, counts), x)


def test_sides_are_padded() -> None:
    x = Rng(1).stream("x").normal((3, 6, 2), F64)
    tokens, counts = patchify(x, (4,))
    joined = unpatchify(tokens, (4,), counts)
    assert torch.equal(joined[:, :6], x)
    assert joined.shape[1] == 8
    assert not joined[:, 6:].any()


def test_positions_equal_those_of_images() -> None:
    like = torch.zeros(1, 6, 16, dtype=F64)
    torch.testing.assert_close(grid_positions([2, 3], like), sincos_positions(2, 3, 16, like))
    assert grid_positions([2, 3, 1], torch.zeros(1, 6, 16)).shape == (6, 16)
