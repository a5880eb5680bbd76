"""Geodesic path on the torus with a network of the posterior of the end, as a baseline of jumps."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.pytree import append_dims
from feller.core.rng import RandomStream, categorical
from feller.paths import CircularBins, Geodesic, Path
from feller.paths.discrete.token_distribution import masked_uniform
from feller.paths.processes import Characteristics, Jumps
from feller.spaces import Torus
from feller.spaces.torus import TWO_PI


@dataclass(frozen=True)
class GeodesicPath(Path):
    """Flow along geodesics from the uniform law to binned ends, whose logits the network predicts.

    Given its end z, a state is uniform on the arc of half width pi (1 - t) around z: ends further away are masked.
    The last step samples the end, as in `JumpPath`.
    """

    ends: CircularBins = field(default_factory=CircularBins)

    def sample(
        self,
        x_0: Float[Tensor, "b d"],
        x_1: Float[Tensor, "b d"],
        t: Float[Tensor, " b"],
        rng: RandomStream | None = None,
    ) -> Float[Tensor, "b d"]:
        """Return the point on the geodesic."""
        return Geodesic(Torus()).sample(x_0, x_1, t)

    def target(
        self, x_t: Float[Tensor, "b d"], x_0: Float[Tensor, "b d"], x_1: Float[Tensor, "b d"], t: Float[Tensor, " b"]
    ) -> Int[Tensor, "b d"]:
        """Return the bin index."""
        return self.ends.target(x_1)

    def _displacements(self, x_t: Float[Tensor, "b d"]) -> Float[Tensor, "b d K"]:
        """Return the shortest displacement to every end."""
        displacement = self.ends.centres.to(x_t) - x_t[..., None]
        return displacement - TWO_PI * torch.round(displacement / TWO_PI)

    def complete_prediction(
        self, prediction: Float[Tensor, "b d K"], x_t: Float[Tensor, "b d"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b d K"]:
        """Return logits with unreachable ends masked, up to half a bin."""
        arc = append_dims(math.pi * (1 - t), prediction) + TWO_PI / self.ends.num_bins / 2
        return prediction.masked_fill(self._displacements(x_t).abs() > arc, -1e30)

    def characteristics(
        self, prediction: Float[Tensor, "b d K"], x_t: Float[Tensor, "b d"], t: Float[Tensor, " b"]
    ) -> Characteristics:
        """Return the expected displacement over the remaining time, and a jump to the end at t = 1."""
        p = self.complete_prediction(prediction, x_t, t).softmax(-1)

        def hazard(s: float) -> Tensor:
            return torch.full_like(x_t, torch.inf if s >= 1 else 0.0, dtype=torch.float64)

        def sample_destination(s: float, mask: Tensor, draw: RandomStream) -> Tensor:
            u, v = masked_uniform(draw, mask), masked_uniform(draw, mask)
            return self.ends.select(self.ends.centres, categorical(p[mask], u), v)

        return Characteristics(
            (p * self._displacements(x_t)).sum(-1) / append_dims(1 - t, x_t), jumps=Jumps(hazard, sample_destination)
        )
