"""U-Net for grids of one, two or three dimensions."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import UNetND
from feller.networks.grid.unet_nd import GridNorm
from tests.errors import refuses
from tests.networks.checks import perturb_weights

SMALL = UNetND(channels=8, multipliers=(1, 2, 2), attention=(False, True), heads=2)
SHAPES = [(13, 2), (1, 1), (9, 6, 2), (5, 4, 3, 2)]
F64 = torch.float64


def random_network(shape: tuple[int, ...], settings: UNetND = SMALL) -> torch.nn.Module:
    return perturb_weights(settings.build(shape, {}, Rng(0)))


def batch(shape: tuple[int, ...], n: int = 3) -> tuple[Tensor, Tensor]:
    draw = Rng(1).stream("x")
    return draw.normal((n, *shape), F64), draw.uniform((n,), F64)


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_and_zero_at_initialisation(shape: tuple[int, ...]) -> None:
    x_t, t = batch(shape)
    network = SMALL.build(shape, {}, Rng(0)).double()
    assert torch.equal(network(x_t, t, {}), torch.zeros_like(x_t))
    assert random_network(shape)(x_t, t, {}).shape == x_t.shape


@pytest.mark.parametrize("shape", [(5,), (2, 2, 2, 2, 2)])
def test_other_numbers_of_dimensions_are_refused(shape: tuple[int, ...]) -> None:
    with refuses(UsageError):
        SMALL.build(shape, {}, Rng(0))


@pytest.mark.parametrize("shape", SHAPES[:1] + SHAPES[2:])
def test_padding_changes_no_prediction(shape: tuple[int, ...]) -> None:
    """Predictions equal those of the example alone, whatever the padding holds, for sides that no level divides."""
    network, (x_t, t) = random_network(shape), batch(shape)
    lengths = torch.tensor([shape[0], shape[0] - 2, 1])
    valid = torch.arange(shape[0]) < lengths[:, None]
    for fill in (0.0, 5.0, torch.nan):
        padded = torch.where(valid.reshape(*valid.shape, *(1,) * (len(shape) - 1)), x_t, fill)
        answer = network(padded, t, {"valid": valid})
        for i, length in enumerate(lengths.tolist()):
            alone = network(x_t[i : i + 1, :length], t[i : i + 1], {})
            torch.testing.assert_close(answer[i, :length], alone[0], rtol=1e-10, atol=1e-10)
            assert not answer[i, length:].any()


def test_missing_entries_are_told_and_their_values_are_ignored() -> None:
    """A missing entry before the end differs from an entry of the same value; its own value changes no prediction."""
    network, (x_t, t) = random_network((13, 2)), batch((13, 2))
    valid = torch.ones(3, 13, 2, dtype=torch.bool)
    valid[:, 4:6] = valid[:, 12, 0] = False
    answers = [network(torch.where(valid, x_t, fill), t, {"valid": valid}) for fill in (0.0, 7.0, torch.nan)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    assert answers[0][:, 12].all()  # the example ends after the last step with a valid entry
    told = (answers[0] - network(torch.where(valid, x_t, 0.0), t, {})).flatten(1).abs().amax(1)
    assert (told > 1e-4).all()


def test_observed_mask_is_an_input() -> None:
    network, (x_t, t) = random_network((13, 2)), batch((13, 2))
    known = torch.zeros_like(x_t, dtype=torch.bool)
    assert torch.equal(network(x_t, t, {"known": known}), network(x_t, t, {}))
    known[:, 3, 1] = True
    assert ((network(x_t, t, {"known": known}) - network(x_t, t, {})).flatten(1).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_translation(rank: int) -> None:
    """Far from the ends, a shift by the coarsest step shifts the prediction."""
    settings = UNetND(channels=4, multipliers=(1, 1), attention=(False,))
    shape = (80, *(1,) * (rank - 1), 1)
    network = random_network(shape, settings)
    for module in network.modules():
        if isinstance(module, GridNorm):  # a norm over the whole grid would see the ends
            module.forward = lambda x, inside: x  # type: ignore[method-assign]
    x_t, t = torch.zeros(1, *shape, dtype=F64), torch.tensor([0.3], dtype=F64)
    x_t[0, 38:41] = 1
    background = network(torch.zeros_like(x_t), t, {})
    change, moved = (network(x, t, {}) - background for x in (x_t, x_t.roll(2, 1)))
    assert change.any()
    torch.testing.assert_close(moved[:, 8:72], change.roll(2, 1)[:, 8:72])


def test_every_entry_depends_on_every_other() -> None:
    network, (x_t, t) = random_network((13, 2)), batch((13, 2), 1)
    x_t.requires_grad_()
    (slope,) = torch.autograd.grad(network(x_t, t, {})[0, 0, 0], x_t)
    assert slope.all()
