"""Drift networks of a diffusion between populations, each with a fitted linear part and a learned residual."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.network_config import NetworkConfig


@dataclass(frozen=True)
class ForwardBackwardDrift(NetworkConfig):
    """Configuration of the forward and backward drifts of a process; calling the network returns the forward drift.

    Each drift is a linear part c(t) x + b(t) plus the output of a network that is initialised to zero. The linear part
    is fitted by regression, because a network narrower than the state can represent a linear map in only a few
    directions.
    """

    inner: NetworkConfig
    """Configuration of the network that predicts the residual of each drift, from states centred and scaled to about 1.

    Use `Potential` for a drift that is a gradient field.
    """
    knots: int = 41
    """Number of times at which the linear part is fitted; between these times it is interpolated."""

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "ForwardBackwardNetwork":
        forward_drift, backward_drift = (
            self.inner.build(shape, conditions, rng.fold_in(direction)) for direction in ("ahead", "back")
        )
        return ForwardBackwardNetwork(Drift(forward_drift, shape, self.knots), Drift(backward_drift, shape, self.knots))


class ForwardBackwardNetwork(nn.Module):
    """Network with the forward and backward drifts of a process, configured by `ForwardBackwardDrift`."""

    def __init__(self, forward_drift: "Drift", backward_drift: "Drift") -> None:
        super().__init__()
        self.forward_drift, self.backward_drift = forward_drift, backward_drift

    def forward(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, " b *d"]:
        """Return the forward drift, in units of the state per unit of time."""
        return self.forward_drift(x_t, t, cond)


class Drift(nn.Module):
    """Forward or backward drift of a `ForwardBackwardNetwork`."""

    centre: Tensor
    """Mean that is subtracted from the state, [*d]."""
    scale: Tensor
    """Standard deviation by which the centred state is divided, a scalar."""
    gain: Tensor
    """Slope of the linear part at each knot time, [knots, *d], for scaled states."""
    shift: Tensor
    """Intercept of the linear part at each knot time, [knots, *d], for scaled states."""

    def __init__(self, inner: nn.Module, shape: tuple[int, ...], knots: int) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("gain", torch.zeros(knots, *shape))
        self.register_buffer("shift", torch.zeros(knots, *shape))

    def forward(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, " b *d"]:
        """Return the drift, in units of the state per unit of time."""
        z = (x_t - self.centre) / self.scale
        gain, shift = self._linear(t)
        return self.scale * (gain * z + shift + self.inner(z, t, cond))

    def potential(self, z: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, " b"]:
        """Return the potential whose gradient with respect to z is drift / scale; `inner` must be a `Potential`.

        z is the scaled state, (state - centre) / scale.
        """
        if not isinstance(self.inner, GradientNetwork):
            raise TypeError(f"only a Potential has a scalar potential; this drift uses {type(self.inner).__name__}")
        gain, shift = self._linear(t)
        return ((gain * z / 2 + shift) * z).flatten(1).sum(1) + self.inner.potential(z, t, cond)

    def fit_scale(self, states: Float[Tensor, " n *d"]) -> None:
        """Set `centre` to the mean of states for each entry, and `scale` to the standard deviation over all entries."""
        self.centre.copy_(states.mean(0))
        self.scale.copy_((states - self.centre).square().mean().sqrt().clamp(min=torch.finfo(states.dtype).tiny))

    @property
    def knot_times(self) -> Float[Tensor, " knots"]:
        """Times at which the linear part is fitted: midpoints of equal intervals of [0, 1]."""
        knots = len(self.gain)
        return (torch.arange(knots, device=self.gain.device) + 0.5) / knots

    def fit_linear(self, x: Float[Tensor, " knots n *d"], target: Float[Tensor, " knots n *d"]) -> None:
        """Fit the linear part to `target` by least squares at each knot time, separately for each state entry.

        Args:
            x: States at each knot time, not scaled.
            target: Drift to fit at each of these states, in units of the state per unit of time.
        """
        z, scaled_target = (x - self.centre) / self.scale, target / self.scale
        z_mean, scaled_target_mean = z.mean(1), scaled_target.mean(1)
        variance = (z - z_mean[:, None]).square().mean(1)
        covariance = ((z - z_mean[:, None]) * (scaled_target - scaled_target_mean[:, None])).mean(1)
        gain = torch.where(variance > 1e-8, covariance / variance.clamp(min=1e-8), 0)  # 0 for a constant entry
        self.gain.copy_(gain)
        self.shift.copy_(scaled_target_mean - gain * z_mean)

    def _linear(self, t: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Interpolate the gain and the shift of the linear part at times t."""
        knot = (t * len(self.gain) - 0.5).clamp(0, len(self.gain) - 1)
        low = knot.long().clamp(max=len(self.gain) - 2)
        weight = (knot - low).reshape(-1, *(1,) * (self.gain.ndim - 1)).to(self.gain.dtype)
        return torch.lerp(self.gain[low], self.gain[low + 1], weight), torch.lerp(
            self.shift[low], self.shift[low + 1], weight
        )


@dataclass(frozen=True)
class Potential(NetworkConfig):
    """Configuration of a network whose output is the gradient of the scalar <x, inner(x, t)> with respect to x."""

    inner: NetworkConfig

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "GradientNetwork":
        return GradientNetwork(self.inner.build(shape, conditions, rng))


class GradientNetwork(nn.Module):
    """Network whose output is the gradient of a scalar potential, configured by `Potential`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def potential(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, " b"]:
        """Return the scalar <x_t, inner(x_t, t)>."""
        return (x_t * self.inner(x_t, t, cond)).flatten(1).sum(1)

    def forward(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, " b *d"]:
        """Return the gradient of the potential with respect to x_t; it is differentiable if gradients are enabled."""
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x_t if x_t.requires_grad else x_t.detach().requires_grad_()
            (grad,) = torch.autograd.grad(self.potential(x, t, cond).sum(), x, create_graph=create_graph)
        return grad
