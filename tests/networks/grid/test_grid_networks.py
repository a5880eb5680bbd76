"""Networks of grids of one, two or three dimensions: shapes, padding, missing and observed entries."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks import NetworkConfig, PatchTransformer, UNetND
from tests.errors import refuses
from tests.networks.checks import perturb_weights

SHAPES = [(13, 2), (1, 1), (7, 5, 2), (5, 4, 3, 2)]
each_network = pytest.mark.parametrize(
    "config",
    [
        UNetND(channels=8, multipliers=(1, 2, 2), attention=(False, True), heads=2),
        PatchTransformer(patch=3, width=16, depth=2, heads=2),
    ],
    ids=["UNetND", "PatchTransformer"],
)


def random_network(config: NetworkConfig, shape: tuple[int, ...]) -> torch.nn.Module:
    return perturb_weights(config.build(shape, {}, Rng(0)))


def batch(shape: tuple[int, ...], n: int = 3) -> tuple[Tensor, Tensor]:
    draw = Rng(1).stream("x")
    return draw.normal((n, *shape), torch.float64), draw.uniform((n,), torch.float64)


@each_network
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_and_zero_at_initialisation(config: NetworkConfig, shape: tuple[int, ...]) -> None:
    x_t, t = batch(shape)
    network = config.build(shape, {}, Rng(0)).double()
    assert torch.equal(network(x_t, t, {}), torch.zeros_like(x_t))
    assert random_network(config, shape)(x_t, t, {}).shape == x_t.shape


@each_network
@pytest.mark.parametrize("shape", [(5,), (2, 2, 2, 2, 2)])
def test_other_numbers_of_dimensions_are_refused(config: NetworkConfig, shape: tuple[int, ...]) -> None:
    with refuses(UsageError):
        config.build(shape, {}, Rng(0))


@each_network
@pytest.mark.parametrize("shape", SHAPES[:1] + SHAPES[2:])
def test_padding_changes_no_prediction(config: NetworkConfig, shape: tuple[int, ...]) -> None:
    """Predictions equal those of the example alone, whatever the padding holds, for sides that no level divides."""
    network, (x_t, t) = random_network(config, shape), batch(shape)
    lengths = torch.tensor([shape[0], shape[0] - 2, 1])
    valid = torch.arange(shape[0]) < lengths[:, None]
    inside = valid.reshape(*valid.shape, *(1,) * (len(shape) - 1))
    known = Rng(2).stream("known").uniform(x_t.shape) < 0.3
    for fill in (0.0, 5.0, torch.nan):
        answer = network(torch.where(inside, x_t, fill), t, {"valid": valid, "known": known & inside})
        for i, length in enumerate(lengths.tolist()):
            cond = {"known": known[i : i + 1, :length]}
            alone = network(x_t[i : i + 1, :length], t[i : i + 1], cond)
            torch.testing.assert_close(answer[i, :length], alone[0], rtol=1e-10, atol=1e-10)
            assert not answer[i, length:].any()


@each_network
def test_missing_entries_are_told_and_their_values_are_ignored(config: NetworkConfig) -> None:
    """A missing entry before the end differs from an entry of the same value; its own value changes no prediction."""
    network, (x_t, t) = random_network(config, (13, 2)), batch((13, 2))
    valid = torch.ones(3, 13, 2, dtype=torch.bool)
    valid[:, 4:6] = valid[:, 12, 0] = False
    answers = [network(torch.where(valid, x_t, fill), t, {"valid": valid}) for fill in (0.0, 7.0, torch.nan)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    assert answers[0][:, 12].all()  # the example ends after the last step with a valid entry
    told = (answers[0] - network(torch.where(valid, x_t, 0.0), t, {})).flatten(1).abs().amax(1)
    assert (told > 1e-4).all()


@each_network
def test_every_entry_depends_on_every_other_and_on_the_observed_mask(config: NetworkConfig) -> None:
    network, (x_t, t) = random_network(config, (13, 2)), batch((13, 2))
    x_t.requires_grad_()
    (slope,) = torch.autograd.grad(network(x_t, t, {})[:, 0, 0].sum(), x_t)
    assert slope.all()
    known = torch.zeros_like(x_t, dtype=torch.bool)
    assert torch.equal(network(x_t, t, {"known": known}), network(x_t, t, {}))
    known[:, 3, 1] = True
    assert ((network(x_t, t, {"known": known}) - network(x_t, t, {})).flatten(1).abs().amax(1) > 1e-4).all()
