"""Forward and backward drifts of bridges: initial zero, linear part, potentials."""

import pytest
import torch

from feller.core.rng import Rng
from feller.networks.bridge_drift import ForwardBackwardDrift, ForwardBackwardNetwork, Potential
from feller.networks.mlp import MLP
from tests.errors import refuses

SMALL = MLP(width=8, depth=1)


def built(inner: object = SMALL, shape: tuple[int, ...] = (3,)) -> ForwardBackwardNetwork:
    return ForwardBackwardDrift(inner).build(shape, {}, Rng(0))


def shaken(network: ForwardBackwardNetwork) -> ForwardBackwardNetwork:
    """Make all weights nonzero."""
    with torch.no_grad():
        for k, weight in enumerate(network.parameters()):
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(k))
    return network


def test_a_new_drift_is_zero_and_the_network_is_the_forward_drift() -> None:
    network, x, t = built(), torch.randn(5, 3), torch.rand(5)
    assert (network(x, t, {}) == 0).all()
    shaken(network)
    torch.testing.assert_close(network(x, t, {}), network.forward_drift(x, t, {}))
    assert (network.backward_drift(x, t, {}) - network.forward_drift(x, t, {})).abs().max() > 0.01


def test_fit_linear_recovers_a_linear_drift() -> None:
    """u = c(t) x + b(t) with c, b linear in time, in units of its own: exact inside, constant beyond the last knots."""
    drift = built().forward_drift
    states = 5 + 3 * torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    drift.fit_scale(states)

    def law(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (2 - 3 * t) * x + torch.tensor([1.0, -2.0, 0.5]) * t

    times = drift.knot_times[:, None, None]
    x = states[None] + times
    drift.fit_linear(x, law(x, times))
    t = torch.linspace(0.02, 0.98, 7)
    here = states[:7]
    torch.testing.assert_close(drift(here, t, {}), law(here, t[:, None]), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(drift(here, torch.zeros(7), {}), drift(here, drift.knot_times[:1].expand(7), {}))


def test_constant_entries_have_zero_gain() -> None:
    drift = built().forward_drift
    x = torch.randn(41, 50, 3)
    x[..., 1] = 4.0
    drift.fit_scale(x[0])
    drift.fit_linear(x, x + 1)
    assert drift.gain.isfinite().all()
    assert (drift.gain[:, 1] == 0).all()


@pytest.mark.parametrize("grad", [True, False])
def test_potential_drift_is_its_gradient(grad: bool) -> None:
    drift = shaken(built(Potential(SMALL))).forward_drift
    drift.fit_scale(2 + 3 * torch.randn(50, 3))
    drift.fit_linear(torch.randn(41, 20, 3), torch.randn(41, 20, 3))
    z, t = torch.randn(4, 3, requires_grad=True), torch.rand(4)
    (slope,) = torch.autograd.grad(drift.potential(z, t, {}).sum(), z)
    with torch.set_grad_enabled(grad):
        found = drift(drift.centre + drift.scale * z, t, {})
    torch.testing.assert_close(found.detach(), drift.scale * slope, atol=1e-5, rtol=1e-4)


def test_only_a_potential_has_a_scalar() -> None:
    with refuses(TypeError):
        built().forward_drift.potential(torch.zeros(2, 3), torch.zeros(2), {})


def test_states_of_any_shape() -> None:
    network = shaken(built(shape=(2, 4)))
    assert network(torch.randn(3, 2, 4), torch.rand(3), {}).shape == (3, 2, 4)
