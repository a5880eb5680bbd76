"""Riemannian manifolds: geodesics, tangent vectors and volume.

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
"""Maximum distance from the manifold, in the ambient space, at which a point counts as lying on the manifold."""


class Manifold(Space):
    """Riemannian manifold whose points are given in coordinates of an ambient Euclidean space.

    A state is `[b, *shape, *point]`: an array `shape` of points per example, each with coordinates of shape `point`.
    Tangent vectors have the shape of the state. All methods keep the precision of their inputs, and have finite
    gradients where the map is smooth, including v = 0 and y = x.
    """

    is_flat = False

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Number of degrees of freedom of one example."""

    @abc.abstractmethod
    def exp(self, x: Points, v: Points) -> Points:
        """Compute the exponential map: the point at time 1 of the geodesic from x with velocity v."""

    @abc.abstractmethod
    def log(self, x: Points, y: Points) -> Points:
        """Compute the logarithmic map: the velocity at x of a shortest geodesic that reaches y at time 1."""

    @abc.abstractmethod
    def transport(self, x: Points, y: Points, v: Points) -> Points:
        """Parallel-transport a tangent vector from x to y along the shortest geodesic."""

    def transport_along(self, x: Tensor, direction: Tensor, v: Tensor) -> Tensor:
        """Parallel-transport a tangent vector along the geodesic from x with velocity `direction` to time 1."""
        return self.transport(x, self.exp(x, direction), v)

    def geodesic_interpolant(self, x: Tensor, y: Tensor, fraction: Tensor) -> tuple[Tensor, Tensor]:
        """Return position and velocity of the shortest geodesic from x to y at times `fraction` (broadcast to states).

        Override this to share computations between position and velocity.
        """
        velocity = self.log(x, y)
        displacement = fraction * velocity
        return self.exp(x, displacement), self.transport_along(x, displacement, velocity)

    @abc.abstractmethod
    def project(self, x: Points) -> Points:
        """Return the nearest point of the manifold."""

    @abc.abstractmethod
    def to_tangent(self, x: Points, v: Points) -> Points:
        """Project an ambient vector orthogonally onto the tangent space at x."""

    @abc.abstractmethod
    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        """Return the log density of the base distribution with respect to the manifold's volume."""

    def norm(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        """Return the Riemannian norm of a tangent vector over all points of an example; default: the ambient norm."""
        return safe_norm(v)

    def distance(self, x: Points, y: Points) -> Float[Tensor, " b"]:
        """Return the geodesic distance over all points of an example."""
        return self.norm(x, self.log(x, y))

    def whiten_probe(self, x: Points, z: Points) -> tuple[Tensor, Tensor]:
        """Map ambient white noise z to a tangent vector w that is white in the metric, and to its dual d.

        <d, v> is the inner product of w and v in the metric, so the mean of <d, J w> is the trace of J on the tangent
        space (Hutchinson's estimator). Override this unless the metric is a constant multiple of the ambient metric.
        """
        w = self.to_tangent(x, z)
        return w, w

    def log_volume_rate(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        """Return the derivative along v of the log volume element relative to the ambient space.

        The divergence of a vector field is the trace of its derivative on the tangent space, plus this rate, which is
        zero if the metric is a constant multiple of the ambient metric.
        """
        return v.new_zeros(len(v))

    def constraint_error(self, x: Points) -> Float[Tensor, " b"]:
        """Return the ambient distance of states from the manifold."""
        return safe_norm(x - self.project(x))

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        return self.exp(x, v)

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the derivative of log(x, y) as y moves with velocity v.

        Runge-Kutta solvers use this map to pull velocities back to the tangent space at x, which preserves their order.
        """
        return torch.func.jvp(lambda y: self.log(x, y), (y,), (v,))[1]


class Parallel(Manifold):
    """Flat manifold in coordinates where geodesics are straight lines and parallel transport is the identity."""

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        return v

    def to_tangent(self, x: Points, v: Points) -> Points:
        return v

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v
