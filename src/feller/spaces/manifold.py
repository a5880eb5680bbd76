"""Spaces with a geometry: shortest lines, tangent vectors, volume.

Source: Chen and Lipman 2024, "Flow matching on general geometries", arXiv 2302.03660; Lipman et al. 2024, arXiv
2412.06264, section 5.
"""

import abc

import torch
from jaxtyping import Float
from torch import Tensor

from feller.spaces.safe_math import safe_norm
from feller.spaces.space import Points, Space

LARGEST_ERROR = 1e-3
"""Distance from the manifold beyond which a point does not count as one of it."""


class Manifold(Space):
    """Points, or arrays of points, in the coordinates of a Euclidean space around them.

    A state is `[b, *shape, *point]`: `shape` counts the points of one example, and `point` is the shape of one point's
    coordinates. Tangent vectors have the shape of the state. All methods work at the precision of their inputs, and
    have finite gradients where the map itself is smooth, also at v = 0 and y = x.
    """

    is_flat = False

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Number of degrees of freedom of one example."""

    @abc.abstractmethod
    def exp(self, x: Points, v: Points) -> Points:
        """Return where the geodesic from x with velocity v is at time 1."""

    @abc.abstractmethod
    def log(self, x: Points, y: Points) -> Points:
        """Return the velocity at x of the shortest geodesic that is at y at time 1; one of several where there are."""

    @abc.abstractmethod
    def transport(self, x: Points, y: Points, v: Points) -> Points:
        """Carry a tangent vector from x to y, parallel along the shortest geodesic."""

    def transport_along(self, x: Tensor, direction: Tensor, v: Tensor) -> Tensor:
        """Carry a tangent vector from x, parallel along the geodesic with a velocity, for the time 1."""
        return self.transport(x, self.exp(x, direction), v)

    def geodesic_interpolant(self, x: Tensor, y: Tensor, fraction: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the shortest geodesic from x to y is at times that broadcast to states, and its velocity there.

        Kinds where the two share their work override this.
        """
        velocity = self.log(x, y)
        displacement = fraction * velocity
        return self.exp(x, displacement), self.transport_along(x, displacement, velocity)

    @abc.abstractmethod
    def project(self, x: Points) -> Points:
        """Return the nearest point of the manifold."""

    @abc.abstractmethod
    def to_tangent(self, x: Points, v: Points) -> Points:
        """Project a vector of the space around orthogonally to the tangent space at x."""

    @abc.abstractmethod
    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        """Return the log density of the reference law with respect to the manifold's volume."""

    def norm(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        """Return the norm of a tangent vector in the metric, here that around, over all points of an example."""
        return safe_norm(v)

    def distance(self, x: Points, y: Points) -> Float[Tensor, " b"]:
        """Return the geodesic distance, over all points of an example."""
        return self.norm(x, self.log(x, y))

    def whiten_probe(self, x: Points, z: Points) -> tuple[Tensor, Tensor]:
        """Turn white noise of the space around into a tangent vector w that is white in the metric, and its dual d.

        <d, v> is the inner product of w and a tangent vector v in the metric, so that the mean of <d, J w> is the trace
        of J along the tangent space. A constant factor of the metric cancels, so kinds override this where the metric
        differs from that of the space around by more.
        """
        w = self.to_tangent(x, z)
        return w, w

    def log_volume_rate(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        """Return the rate at which the log of the volume element grows along v, beside that of the space around.

        The divergence of a field is the trace of its derivative along the tangent space, plus this. Zero where the
        metric is that of the space around, up to a constant.
        """
        return v.new_zeros(len(v))

    def constraint_error(self, x: Points) -> Float[Tensor, " b"]:
        """Return how far states are from the manifold, in the space around."""
        return safe_norm(x - self.project(x))

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        return self.exp(x, v)

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the rate at which log(x, y) changes as y moves with velocity v.

        A curve then is a curve in the tangent space at x, where a Runge-Kutta rule keeps its order.
        """
        return torch.func.jvp(lambda y: self.log(x, y), (y,), (v,))[1]


class Parallel(Manifold):
    """Vectors at one point are vectors at all others: coordinates in which geodesics are straight lines."""

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        return v

    def to_tangent(self, x: Points, v: Points) -> Points:
        return v

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v
