"""Drifts of a diffusion between populations: in the data's own units, with what is linear in the state known first."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.architecture import Architecture


@dataclass(frozen=True)
class BothWays(Architecture):
    """Two drifts of one process, ahead and back in time, of which a plain call asks for the one ahead.

    Each is c(t) x + b(t) plus a network that begins at zero. The linear part is fitted, not learned: without it a
    network whose layers are narrower than the state could reach a few directions only.
    """

    inner: Architecture
    """Sees states that are moved and scaled to about 1; `Potential` for drifts that are gradients."""
    knots: int = 41
    """Times at which the linear part is fitted; between them it is interpolated."""

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "TwoDrifts":
        """Make both, with new weights."""
        ahead, back = (self.inner.build(shape, conditions, draws.fold_in(way)) for way in ("ahead", "back"))
        return TwoDrifts(Drift(ahead, shape, self.knots), Drift(back, shape, self.knots))


class TwoDrifts(nn.Module):
    """The network of `BothWays`."""

    def __init__(self, ahead: "Drift", back: "Drift") -> None:
        super().__init__()
        self.ahead, self.back = ahead, back

    def forward(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, " b *d"]:
        """Return the drift ahead, in state per time."""
        return self.ahead(x_t, t, given)


class Drift(nn.Module):
    """One drift."""

    centre: Tensor
    """What is subtracted from a state, [*d]."""
    scale: Tensor
    """What it is then divided by, a number."""
    gain: Tensor
    """Of the linear part at each knot, [knots, *d], in scaled states."""
    shift: Tensor
    """Alike."""

    def __init__(self, inner: nn.Module, shape: tuple[int, ...], knots: int) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("gain", torch.zeros(knots, *shape))
        self.register_buffer("shift", torch.zeros(knots, *shape))

    def forward(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, " b *d"]:
        """Return the drift, in state per time."""
        z = (x_t - self.centre) / self.scale
        gain, shift = self._linear(t)
        return self.scale * (gain * z + shift + self.inner(z, t, given))

    def scalar(self, z: Float[Tensor, " b *d"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, " b"]:
        """Return a function of scaled states whose gradient is the drift over the scale, for a `Potential`."""
        if not isinstance(self.inner, GradientNetwork):
            raise TypeError(f"only a Potential has a scalar, and this drift is made of {type(self.inner).__name__}")
        gain, shift = self._linear(t)
        return ((gain * z / 2 + shift) * z).flatten(1).sum(1) + self.inner.scalar(z, t, given)

    def look_at(self, states: Float[Tensor, " n *d"]) -> None:
        """Choose centre and scale by what states there will be."""
        self.centre.copy_(states.mean(0))
        self.scale.copy_((states - self.centre).square().mean().sqrt().clamp(min=torch.finfo(states.dtype).tiny))

    @property
    def times(self) -> Float[Tensor, " knots"]:
        """Of the knots: the middles of equal pieces of [0, 1]."""
        knots = len(self.gain)
        return (torch.arange(knots, device=self.gain.device) + 0.5) / knots

    def fit_linear(self, x: Float[Tensor, " knots n *d"], target: Float[Tensor, " knots n *d"]) -> None:
        """Regress targets at the times of the knots on the states there, each entry by itself."""
        z, wanted = (x - self.centre) / self.scale, target / self.scale
        z_mean, wanted_mean = z.mean(1), wanted.mean(1)
        spread = (z - z_mean[:, None]).square().mean(1)
        together = ((z - z_mean[:, None]) * (wanted - wanted_mean[:, None])).mean(1)
        gain = torch.where(spread > 1e-8, together / spread.clamp(min=1e-8), 0)  # an entry that never varies has none
        self.gain.copy_(gain)
        self.shift.copy_(wanted_mean - gain * z_mean)

    def _linear(self, t: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Interpolate gain and shift."""
        place = (t * len(self.gain) - 0.5).clamp(0, len(self.gain) - 1)
        low = place.long().clamp(max=len(self.gain) - 2)
        part = (place - low).reshape(-1, *(1,) * (self.gain.ndim - 1)).to(self.gain.dtype)
        return torch.lerp(self.gain[low], self.gain[low + 1], part), torch.lerp(
            self.shift[low], self.shift[low + 1], part
        )


@dataclass(frozen=True)
class Potential(Architecture):
    """A network whose answer is the gradient in the state of a scalar function, <x, inner(x, t)>."""

    inner: Architecture

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "GradientNetwork":
        """Make it, with new weights."""
        return GradientNetwork(self.inner.build(shape, conditions, draws))


class GradientNetwork(nn.Module):
    """The network of `Potential`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def scalar(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, " b"]:
        """Return the function."""
        return (x_t * self.inner(x_t, t, given)).flatten(1).sum(1)

    def forward(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, " b *d"]:
        """Return its gradient, which can be differentiated again where gradients are asked for."""
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x_t if x_t.requires_grad else x_t.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.scalar(x, t, given).sum(), x, create_graph=again)
        return slope
