"""A density of angles without a network: what a model has to beat."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.rng import Draws
from feller.spaces.torus import TURN

LEAST, MOST = 0.01, 2.0
"""Deviations of a component, in radians. Beyond 2, images other than the nearest three would count."""
CHUNK = 2**22
"""Numbers that are held at once, about: 32 MiB."""
ENOUGH = 1e-4
"""Nats per example that a step must gain."""


@dataclass(frozen=True, eq=False)
class WrappedMixture:
    """A mixture of normal laws with diagonal covariance, wound around the torus; densities are those of radians."""

    log_weights: Float64[Tensor, " k"]
    means: Float64[Tensor, "k d"]
    scales: Float64[Tensor, "k d"]
    """Standard deviations, in radians."""

    def log_density(self, x: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        """Return the log density at angles in radians, in nats."""
        return torch.cat([self._look(part)[0].logsumexp(1) for part in x.double().split(self._rows())])

    def improved(self, x: Float64[Tensor, "n d"]) -> tuple["WrappedMixture", float]:
        """Return the mixture after one step of expectation and maximisation, and the mean log density before it.

        What is missing is which component an example comes from, and how often each of its angles went around.
        """
        total = 0.0
        count = torch.zeros_like(self.log_weights)
        first, second = torch.zeros_like(self.means), torch.zeros_like(self.means)
        for part in x.split(self._rows()):
            joint, mean, square = self._look(part)
            log_density = joint.logsumexp(1, keepdim=True)
            share = (joint - log_density).exp()
            total += log_density.sum().item()
            count += share.sum(0)
            first += (share[:, :, None] * mean).sum(0)
            second += (share[:, :, None] * square).sum(0)
        count = count.clamp_min(1e-10)
        shift = first / count[:, None]
        scales = (second / count[:, None] - shift.square()).clamp_min(LEAST**2).sqrt().clamp_max(MOST)
        means = (self.means + shift).remainder(TURN)
        return WrappedMixture((count / count.sum()).log(), means, scales), total / len(x)

    def _rows(self) -> int:
        return max(1, CHUNK // (8 * self.means.numel()))

    def _look(
        self, x: Float64[Tensor, "n d"]
    ) -> tuple[Float64[Tensor, "n k"], Float64[Tensor, "n k d"], Float64[Tensor, "n k d"]]:
        """Return the log of each component's weight and density, and the first moments of the way from its mean.

        An angle counts with its nearest image and those a turn before and after, whose densities are those of the
        nearest times a number up to 1.
        """
        away = x[:, None] - self.means
        away = away - TURN * torch.round(away / TURN)
        variance = self.scales.square()
        after = ((-TURN / 2 - away) * (TURN / variance)).exp()
        before = ((-TURN / 2 + away) * (TURN / variance)).exp()
        images = 1 + after + before
        log_density = images.log() - away.square() / (2 * variance) - self.scales.log() - math.log(TURN) / 2
        mean = away + TURN * (after - before) / images
        square = away.square() + (2 * TURN * away * (after - before) + TURN**2 * (after + before)) / images
        return self.log_weights + log_density.sum(2), mean, square


def wrapped_mixture(
    x: Float[Tensor, "n d"], draws: Draws, *, components: int = 50, restarts: int = 3, steps: int = 200
) -> WrappedMixture:
    """Fit a mixture to angles in radians; of several beginnings the likeliest end is kept.

    Args:
        x: The angles.
        draws: Chooses the examples at which components begin.
        components: How many; no more than there are examples.
        restarts: Beginnings.
        steps: Of expectation and maximisation, at most, for each.

    Raises:
        ValueError: If there are no examples.
    """
    if not len(x):
        raise ValueError("expected angles to fit a mixture to, got none")
    x, k = x.double(), min(components, len(x))

    def climb(restart: int) -> tuple[float, WrappedMixture]:
        chosen = torch.randperm(len(x), generator=draws.at("begin", restart).shared())[:k]
        weights = torch.full((k,), -math.log(k), dtype=torch.float64)
        mixture, before = WrappedMixture(weights, x[chosen], torch.full_like(x[chosen], 0.5)), -math.inf
        for _ in range(steps):
            after, value = mixture.improved(x)
            if value - before < ENOUGH:
                break
            mixture, before = after, value
        return before, mixture

    return max((climb(restart) for restart in range(restarts)), key=lambda end: end[0])[1]
