"""Transformer over patches of grids of one, two or three dimensions."""

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import PatchTransformer
from feller.networks.grid.patch_transformer import grid_positions, patchify, unpatchify
from feller.networks.image.dit import sincos_positions
from tests.errors import refuses
from tests.networks.checks import perturb_weights

SMALL = PatchTransformer(patch=3, width=16, depth=2, heads=2)
SHAPES = [(13, 2), (1, 1), (7, 5, 2), (5, 4, 3, 2)]
F64 = torch.float64


def random_network(shape: tuple[int, ...]) -> torch.nn.Module:
    return perturb_weights(SMALL.build(shape, {}, Rng(0)))


def batch(shape: tuple[int, ...], n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    draw = Rng(1).stream("x")
    return draw.normal((n, *shape), F64), draw.uniform((n,), F64)


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_and_zero_at_initialisation(shape: tuple[int, ...]) -> None:
    x_t, t = batch(shape)
    network = SMALL.build(shape, {}, Rng(0)).double()
    assert torch.equal(network(x_t, t, {}), torch.zeros_like(x_t))
    assert random_network(shape)(x_t, t, {}).shape == x_t.shape


def test_other_settings_are_refused() -> None:
    for shape in ((5,), (2, 2, 2, 2, 2)):
        with refuses(UsageError):
            SMALL.build(shape, {}, Rng(0))
    for settings in ({"patch": 0}, {"width": 30, "heads": 4}, {"width": 3, "heads": 1}):
        with refuses(UsageError):
            PatchTransformer(**settings)


@pytest.mark.parametrize("shape", [(6, 2), (6, 4, 2), (6, 4, 2, 1)])
def test_patches_of_known_entries(shape: tuple[int, ...]) -> None:
    """Each patch holds the block of entries that slices select, and joining the patches gives the grid back."""
    x, patches = batch(shape)[0], (3, 2, 1)[: len(shape) - 1]
    tokens, counts = patchify(x, patches)
    assert counts == [side // p for side, p in zip(shape, patches, strict=False)]
    last = x[(slice(None), *(slice(side - p, side) for side, p in zip(shape, patches, strict=False)))]
    assert torch.equal(tokens[:, -1], last.flatten(1))
    assert torch.equal(unpatchify(tokens, patches, counts), x)


def test_sides_are_padded() -> None:
    x = batch((6, 2))[0]
    tokens, counts = patchify(x, (4,))
    joined = unpatchify(tokens, (4,), counts)
    assert torch.equal(joined[:, :6], x)
    assert joined.shape[1] == 8
    assert not joined[:, 6:].any()


def test_positions_equal_those_of_images() -> None:
    like = torch.zeros(1, 6, 16, dtype=F64)
    torch.testing.assert_close(grid_positions([2, 3], like), sincos_positions(2, 3, 16, like))
    assert grid_positions([2, 3, 1], torch.zeros(1, 6, 16)).shape == (6, 16)


@pytest.mark.parametrize("shape", SHAPES[:1] + SHAPES[2:])
def test_padding_changes_no_prediction(shape: tuple[int, ...]) -> None:
    """Predictions equal those of the example alone, whatever the padding holds, also in the patch where it ends."""
    network, (x_t, t) = random_network(shape), batch(shape)
    lengths = torch.tensor([shape[0], shape[0] - 2, 1])
    valid = torch.arange(shape[0]) < lengths[:, None]
    known = Rng(2).stream("known").uniform(x_t.shape) < 0.3
    for fill in (0.0, 5.0, torch.nan):
        padded = torch.where(valid.reshape(*valid.shape, *(1,) * (len(shape) - 1)), x_t, fill)
        observed = known & valid.reshape(*valid.shape, *(1,) * (len(shape) - 1))
        answer = network(padded, t, {"valid": valid, "known": observed})
        for i, length in enumerate(lengths.tolist()):
            cond = {"known": known[i : i + 1, :length]}
            alone = network(x_t[i : i + 1, :length], t[i : i + 1], cond)
            torch.testing.assert_close(answer[i, :length], alone[0], rtol=1e-10, atol=1e-10)
            assert not answer[i, length:].any()


def test_every_entry_depends_on_every_other_and_on_the_observed_mask() -> None:
    network, (x_t, t) = random_network((13, 2)), batch((13, 2), 1)
    x_t.requires_grad_()
    (slope,) = torch.autograd.grad(network(x_t, t, {})[0, 0, 0], x_t)
    assert slope.all()
    known = torch.zeros_like(x_t, dtype=torch.bool)
    assert torch.equal(network(x_t, t, {"known": known}), network(x_t, t, {}))
    known[:, 3, 1] = True
    assert (network(x_t, t, {"known": known}) - network(x_t, t, {})).abs().max() > 1e-4


def test_missing_entries_are_told_and_their_values_are_ignored() -> None:
    network, (x_t, t) = random_network((13, 2)), batch((13, 2))
    valid = torch.ones(3, 13, 2, dtype=torch.bool)
    valid[:, 4:6] = valid[:, 12, 0] = False
    answers = [network(torch.where(valid, x_t, fill), t, {"valid": valid}) for fill in (0.0, 7.0, torch.nan)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    told = (answers[0] - network(torch.where(valid, x_t, 0.0), t, {})).flatten(1).abs().amax(1)
    assert (told > 1e-4).all()
