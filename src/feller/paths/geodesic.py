"""Geodesic paths on manifolds."""

from dataclasses import dataclass, field

import torch

from feller.core.errors import check_kind
from feller.core.pytree import append_dims
from feller.core.rng import RandomStream
from feller.paths.path import Path, Times, check_times, leads_elsewhere
from feller.paths.processes import Characteristics
from feller.paths.schedules import Linear, Schedule, check_convex
from feller.spaces import Euclidean, Manifold, Product, Space, Tokens
from feller.spaces.space import Points


@dataclass(frozen=True)
class ManifoldPath(Path):
    """Base class of flows on a manifold; the network's velocity is projected onto the tangent space."""

    space: Manifold
    schedule: Schedule = field(default_factory=Linear)
    answers_like_state = True

    def __post_init__(self) -> None:
        if not isinstance(self.space, Product):
            check_kind("space", self.space, Manifold, "feller.Sphere()")
        check_kind("schedule", self.schedule, Schedule, "feller.Linear()")
        check_convex(self.schedule, f"a {type(self).__name__.lower()} path")

    def check_space(self, space: Space, name: str = "path") -> None:
        if isinstance(space, Tokens) or (isinstance(space, Manifold) and type(space) is not type(self.space)):
            raise leads_elsewhere(self, space, name, f"a path on {type(self.space).__name__}")

    def characteristics(self, prediction: Points, x_t: Points, t: Times) -> Characteristics:
        is_curved = not isinstance(self.space, Euclidean)
        return Characteristics(velocity=self.space.to_tangent(x_t, prediction), is_tangent=is_curved)


@dataclass(frozen=True)
class Geodesic(ManifoldPath):
    """Geodesic path x_t = exp(x_0, alpha_t log(x_0, x_1)) from source to data.

    The network predicts the velocity in ambient coordinates, which is projected onto the tangent space. Source: Chen
    and Lipman 2024, "Flow matching on general geometries", arXiv 2302.03660.
    """

    def sample(self, x_0: Points, x_1: Points, t: Times, rng: RandomStream | None = None) -> Points:
        return self.sample_with_target(x_0, x_1, t)[0]

    def target(self, x_t: Points, x_0: Points, x_1: Points, t: Times) -> Points:
        """Return the velocity at x_t, parallel-transported from x_0.

        This velocity equals alpha' / (1 - alpha) log(x_t, x_1), but avoids the quotient of small numbers near t = 1.
        """
        return self.sample_with_target(x_0, x_1, t)[1]

    def sample_with_target(
        self, x_0: Points, x_1: Points, t: Times, rng: RandomStream | None = None
    ) -> tuple[Points, Points]:
        check_times(t, x_1)
        scales = self.schedule(append_dims(t, x_0))
        alpha, d_alpha = (torch.as_tensor(value).to(x_0) for value in (scales.alpha, scales.d_alpha))
        x_t, velocity = self.space.geodesic_interpolant(x_0, x_1, alpha)
        return x_t, d_alpha * velocity
