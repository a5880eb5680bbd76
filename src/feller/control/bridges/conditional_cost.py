"""Monte Carlo estimate of the cost of Gaussian paths with fixed endpoints, as a differentiable function of their knots.

Tensors have the state dimension first and the pairs last, [d, ..., n], so that operations vectorise well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from feller.control.bridges.costs import PopulationDensity, StateCost
from feller.control.bridges.costs.gaussian_mixture import scott
from feller.control.bridges.gaussian_paths import GaussianPaths, interpolation, multiplier
from feller.core.rng import Rng

BaseDrift = Callable[[Tensor, Tensor], Tensor]
"""Function (x [*b, d], t broadcastable to [*b]) -> drift of the uncontrolled process, [*b, d], in state units per
time."""
MIN_TIME_GAP = 1e-6
"""Minimum distance of a sampled time from 0 and from 1."""
MAX_DIM_BY_VALUES = 128
"""Maximum state dimension for gradients estimated from values; in higher dimensions their variance is too high."""


class Knots(NamedTuple):
    """Knots of the means and of the standard deviations of a batch of paths, with the state dimension first.

    Knots are values at equally spaced times, between which the mean and the transformed standard deviation are linear;
    see `GaussianPaths`.
    """

    means: Float[Tensor, "d k n"]
    scales: Float[Tensor, "l n"]

    @staticmethod
    def from_paths(paths: GaussianPaths) -> "Knots":
        """Copy the knots of paths into leaf tensors that require gradients."""
        transposed = paths.means.permute(2, 1, 0), paths.scales.T
        return Knots(
            *(knots.detach().clone(memory_format=torch.contiguous_format).requires_grad_() for knots in transposed)
        )

    def to_paths(self, noise: float) -> GaussianPaths:
        """Convert the knots to `GaussianPaths`; `noise` is the standard deviation of the Brownian motion at time 1."""
        means, scales = self.means.detach(), self.scales.detach()
        return GaussianPaths(means.permute(2, 1, 0).contiguous(), scales.T.contiguous(), noise)


@dataclass(frozen=True, eq=False)
class PathNoise:
    """Random times and standard normal samples of one Monte Carlo estimate."""

    t: Float[Tensor, " s"]
    """Times, shared by all pairs."""
    z: Float[Tensor, "d half s n"]
    """Standard normal samples; each is used with both signs, which gives two antithetic states."""
    shift: int
    """Offset along the pair axis. The population samples of a pair are the states of the pair at this offset, because
    these are independent of its own states."""

    @staticmethod
    def sample(knots: Knots, times: int, half: int, rng: Rng, step: int) -> "PathNoise":
        """Sample stratified times in [0, 1] and standard normal variables.

        Args:
            knots: Knots of the paths.
            times: Number of times.
            half: Number of antithetic pairs of states per path and time.
            rng: Source of random numbers.
            step: Number of the optimisation step, which determines the random numbers.
        """
        (d, _, n), dtype, device = knots.means.shape, knots.means.dtype, knots.means.device
        offset = torch.rand(times, dtype=torch.float64, generator=rng.stream("times", step).shared_generator())
        t = ((torch.arange(times) + offset) / times).clamp(MIN_TIME_GAP, 1 - MIN_TIME_GAP).to(device, dtype)
        pair_rng = Rng(rng.seed, half * rng.first_example)
        z = pair_rng.stream("states", step).normal((n * half, d, times), dtype, device)
        shift = 1 + int(torch.randint(max(n - 1, 1), (), generator=rng.stream("crowd", step).shared_generator()))
        return PathNoise(t, z.unflatten(0, (n, half)).permute(2, 1, 3, 0).contiguous(), shift)


@dataclass(frozen=True, eq=False)
class ConditionalCost:
    """Objective E int 1/2 |u|^2 + V dt of the Gaussian path of each endpoint pair.

    Here u is the drift of the path and V the state cost. The kinetic energy of the Brownian bridge is subtracted,
    because absolute energies diverge near the end.
    """

    cost: StateCost
    noise: float
    base_drift: BaseDrift | None = None
    """Drift f of the uncontrolled process; the energy is then 1/2 |u - f|^2."""
    is_backward: bool = False
    """True if u is replaced by the backward drift v, so that the energy is 1/2 |v + f|^2."""

    def estimate(self, knots: Knots, sample: PathNoise) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Estimate the kinetic energy and the state cost of each pair, each integrated over time.

        The gradient of their sum with respect to the knots is unbiased.

        Args:
            knots: Knots of the paths.
            sample: Random times and standard normal samples of the estimate.
        """
        paths = _SampledPaths(knots, sample, self.noise)
        energy = paths.energy()
        if self.base_drift is not None:
            energy = energy + self._of_base(self.base_drift, paths).mean((0, 1))
        use_autograd = self.cost.differentiable or len(knots.means) > MAX_DIM_BY_VALUES
        state = self._costs(paths, paths.states) if use_autograd else self._costs_by_values(paths)
        return energy, state.mean((0, 1))

    def _of_base(self, base_drift: BaseDrift, paths: "_SampledPaths") -> Float[Tensor, "draws s n"]:
        """Return the base drift's term of the energy, 1/2 |f|^2 - <u, f>; for the backward drift, v replaces -u.

        f may be discontinuous: in low dimensions its gradient is estimated from values, with f at the mean as baseline;
        in high dimensions it comes from autograd, which ignores jumps.
        """
        control = paths.control(self.is_backward)
        by_values = self.noise > 0 and len(control) <= MAX_DIM_BY_VALUES
        with torch.set_grad_enabled(torch.is_grad_enabled() and not by_values):
            f = self._drifts(base_drift, paths, paths.states)
        terms = ((f / 2 - control) * f).sum(0)
        if not by_values:
            return terms
        with torch.no_grad():
            f_mean = self._drifts(base_drift, paths, paths.mean[:, None])
            excess = terms - ((f_mean / 2 - control) * f_mean).sum(0)
            gain, z, f_change = paths.gain(self.is_backward), torch.cat([paths.z, -paths.z], 1), f - f_mean
            grad_mean = (excess * z + gain * f_change) / paths.std
            grad_std = (excess * (z.square().sum(0) - len(z)) + gain * (z * f_change).sum(0)) / paths.std
        surrogate = (grad_mean * paths.mean[:, None]).sum(0) + grad_std * paths.std
        return terms + surrogate - surrogate.detach()

    def _drifts(self, base_drift: BaseDrift, paths: "_SampledPaths", states: Tensor) -> Float[Tensor, "d draws s n"]:
        drifts = base_drift(paths.rows(states), paths.row_times(states.shape[1]))
        return drifts.movedim(-1, 0).unflatten(1, states.shape[1:3])

    def _costs_by_values(self, paths: "_SampledPaths") -> Float[Tensor, "half s n"]:
        """Return the cost, with a gradient estimated from its values.

        d/dm E V = E V z / gamma and d/dgamma E V = E V (|z|^2 - d) / gamma, from antithetic states and with the cost at
        the mean as control variate.
        """
        with torch.no_grad():
            above, below = self._costs(paths, paths.states).chunk(2)
            even = (above + below) / 2 - self._costs(paths, paths.mean[:, None])
            odd, z = (above - below) / 2, paths.z
        surrogate = odd * (z * paths.mean[:, None]).sum(0) + even * (z.square().sum(0) - len(z)) * paths.std
        surrogate = surrogate / paths.std.detach()
        return (above + below) / 2 + surrogate - surrogate.detach()

    def _costs(self, paths: "_SampledPaths", states: Float[Tensor, "d draws s n"]) -> Float[Tensor, "draws s n"]:
        costs = self.cost(paths.rows(states), paths.row_times(states.shape[1]), self._population(paths, states))
        return costs.unflatten(0, states.shape[1:3])

    def _population(self, paths: "_SampledPaths", states: Float[Tensor, "d draws s n"]) -> PopulationDensity | None:
        """Return the population at each sampled time, from which the cost of each pair's state is computed.

        Each state sees the state of another pair. None if the cost does not depend on the population.
        """
        if not self.cost.needs_population:
            return None
        samples = paths.rows(states.roll(paths.shift, -1))
        centres = paths.rows(paths.mean[:, None]).detach()
        widths = (
            paths.std.detach()
            if self.noise
            else scott(centres).clamp(min=MIN_TIME_GAP)[:, None].expand(centres.shape[:2])
        )
        num_samples = states.shape[1]
        return PopulationDensity(samples, centres.repeat(num_samples, 1, 1), widths.repeat(num_samples, 1))


class _SampledPaths:
    """States of the paths, sampled at the random times of a `PathNoise`, and what the energy needs of them."""

    def __init__(self, knots: Knots, sample: PathNoise, noise: float) -> None:
        self.knots, self.noise, self.t, self.z, self.shift = knots, noise, sample.t, sample.z, sample.shift
        values, self._slopes = interpolation(self.t, knots.means.shape[1])
        self.mean = values @ knots.means
        if not noise:
            self.states = self.mean[:, None]
            return
        y, y_rate = (matrix @ knots.scales for matrix in interpolation(self.t, len(knots.scales)))
        self.h, self.h_rate = multiplier(y, y_rate)
        self.square = (self.t * (1 - self.t))[:, None]
        self.std = noise * self.square.sqrt() * self.h
        self.states = _AntitheticStates.apply(self.mean, self.std, self.z)

    def rows(self, states: Float[Tensor, "d draws s n"]) -> Float[Tensor, "rows n d"]:
        """Return states in the layout of `StateCost`, with samples merged into the time axis."""
        return states.flatten(1, 2).movedim(0, -1)

    def row_times(self, draws: int) -> Float[Tensor, "rows 1"]:
        return self.t.repeat(draws)[:, None]

    def energy(self) -> Float[Tensor, " n"]:
        """Return the kinetic energy of each pair, see `kinetic`; the integral over time uses the sampled times."""
        means = self.knots.means
        straight_sq = (means[:, -1] - means[:, 0]).square().sum(0)
        excess = ((means.shape[1] - 1) * means.diff(dim=1).square().sum((0, 1)) - straight_sq) / 2
        if not self.noise:
            return excess
        scale_energy = (self.h - 1 / self.h).square() / self.square + 4 * self.square * self.h_rate.square()
        return excess + len(means) * self.noise**2 / 8 * scale_energy.mean(0)

    def control(self, backward: bool) -> Float[Tensor, "d draws s n"]:
        """Return the control u at the sampled states; for the backward drift v, return -v."""
        velocity = (self._slopes @ self.knots.means)[:, None]
        if not self.noise:
            return velocity
        deviation = self.gain(backward) * self.z
        return torch.cat([velocity + deviation, velocity - deviation], 1)

    def gain(self, backward: bool) -> Float[Tensor, "s n"]:
        """Return the coefficient of z in u, or in -v for the backward drift."""
        h_term = (1 if backward else -1) / self.h
        gain = (1 - 2 * self.t)[:, None] * self.h + h_term + 2 * self.square * self.h_rate
        return self.noise / (2 * self.square.sqrt()) * gain


class _AntitheticStates(torch.autograd.Function):
    """Antithetic states mean +- std * z, with a fused backward pass (half the time)."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, std: Tensor, z: Tensor) -> Tensor:
        half = z.shape[1]
        states = z.new_empty(len(z), 2 * half, *z.shape[2:])
        torch.mul(std, z, out=states[:, half:])
        torch.add(mean[:, None], states[:, half:], out=states[:, :half])
        torch.sub(mean[:, None], states[:, half:], out=states[:, half:])
        ctx.save_for_backward(z)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_output: Tensor) -> tuple[Tensor, Tensor, None]:  # pyrefly: ignore
        (z,) = ctx.saved_tensors
        above, below = grad_output[0].chunk(2, 1)
        return (above + below).sum(1), (above - below).mul_(z).sum((0, 1)), None
