"""Rotations SO(3) and rigid motions SE(3)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.core.rng import RandomStream
from feller.spaces.euclidean import Euclidean
from feller.spaces.manifold import Manifold
from feller.spaces.product import Product
from feller.spaces.safe_math import angle_over_sine, cosc, safe_norm, sinc, sinc_remainder
from feller.spaces.space import Points

AMBIGUOUS = 1e-6
"""Gap between singular values, relative to the largest, below which the nearest rotation counts as not unique."""


def hat(w: Float[Tensor, "*d 3"]) -> Float[Tensor, "*d 3 3"]:
    """Return the skew-symmetric matrix of the cross product with w."""
    x, y, z = w.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def vee(a: Float[Tensor, "*d 3 3"]) -> Float[Tensor, "*d 3"]:
    """Return the vector of the skew-symmetric part of a matrix (inverse of `hat`)."""
    a = (a - a.mT) / 2
    return torch.stack([a[..., 2, 1], a[..., 0, 2], a[..., 1, 0]], -1)


def rotation(w: Float[Tensor, "*d 3"]) -> Float[Tensor, "*d 3 3"]:
    """Return the matrix of the rotation about w by `|w|` radians, by Rodrigues' formula."""
    s = w.square().sum(-1)[..., None, None]
    a = hat(w)
    return torch.eye(3, dtype=w.dtype, device=w.device) + sinc(s) * a + cosc(s) * (a @ a)


def from_quaternion(q: Float[Tensor, "*d 4"]) -> Float[Tensor, "*d 3 3"]:
    """Return the rotation matrix of a unit quaternion, real part first."""
    a = hat(q[..., 1:])
    return torch.eye(3, dtype=q.dtype, device=q.device) + 2 * (q[..., :1, None] * a + a @ a)


def to_quaternion(a: Float[Tensor, "*d 3 3"]) -> Float[Tensor, "*d 4"]:
    """Return the unit quaternion with non-negative real part of the rotation I + a.

    Each row of 4 q q^T is linear in the matrix, and the row with the largest diagonal entry is far from 0. The argument
    `a` excludes the identity, because rounding near 1 would lose small angles.
    """
    sums, (x, y, z) = a + a.mT, torch.diagonal(a, dim1=-2, dim2=-1).unbind(-1)
    i, j, k = (2 * vee(a)).unbind(-1)
    ij, ik, jk = sums[..., 0, 1], sums[..., 0, 2], sums[..., 1, 2]
    entries = [4 + x + y + z, i, j, k, i, x - y - z, ij, ik, j, ij, y - x - z, jk, k, ik, jk, z - x - y]
    matrix = torch.stack(entries, -1).unflatten(-1, (4, 4))
    index = torch.diagonal(matrix, dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    row = torch.take_along_dim(matrix, index, -2).squeeze(-2)
    row = torch.where(row[..., :1] < 0, -row, row)
    return row / row.square().sum(-1, keepdim=True).sqrt()


@dataclass(frozen=True)
class SO3(Manifold):
    """Rotation group SO(3) as matrices, with the uniform distribution as source; distances are angles.

    A tangent vector at R is a matrix R hat(w) of norm `|w|`: the metric is half the ambient inner product.
    """

    shape: tuple[int, ...] = ()
    """Shape of the array of rotations in one example."""

    @property
    def dimension(self) -> int:
        return 3 * math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        q = rng.normal((n, *self.shape, 4), device=device)
        return from_quaternion(q / torch.linalg.vector_norm(q, dim=-1, keepdim=True))

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        """Return the log density of the uniform distribution: -log(8 pi^2) times the number of rotations."""
        return x.new_full((len(x),), -math.log(8 * math.pi**2) * math.prod(self.shape))

    def exp(self, x: Points, v: Points) -> Points:
        y = x @ rotation(vee(x.mT @ v))
        return y @ (3 * torch.eye(3, dtype=y.dtype, device=y.device) - y.mT @ y) / 2

    def log(self, x: Points, y: Points) -> Points:
        return x @ hat(self._rotation_vector(x, y))

    def _rotation_vector(self, x: Tensor, y: Tensor) -> Tensor:
        q = to_quaternion(x.mT @ (y - x))
        sine = q[..., 1:]
        return 2 * angle_over_sine(sine.square().sum(-1, keepdim=True), q[..., :1]) * sine

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        half_rotation = rotation(-self._rotation_vector(x, y) / 2)
        return y @ (half_rotation @ (x.mT @ v) @ half_rotation.mT)

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        rotation_vector, angular_velocity = self._rotation_vector(x, y), vee(y.mT @ v)
        q = rotation_vector.square().sum(-1, keepdim=True) / 4
        cross = torch.linalg.cross(rotation_vector, angular_velocity)
        correction = (cosc(q) - sinc_remainder(q)) / (4 * sinc(q)) * torch.linalg.cross(rotation_vector, cross)
        return x @ hat(angular_velocity + cross / 2 + correction)

    def project(self, x: Points) -> Points:
        """Return the nearest rotation, by SVD; if several are nearest (see `is_ambiguous`), return one of these.

        The SVD has no derivative at a rotation, whose singular values are equal, so one Newton step supplies the
        derivative of the projection.
        """
        u, s, vh = torch.linalg.svd(x.detach())
        s, vh = _proper(u, s, vh)
        nearest = u @ vh
        rates = torch.where(_gap(s) <= AMBIGUOUS, 1.0, s.sum(-1, keepdim=True) - s)
        twist = vh @ (2 * vee(nearest.mT @ x))[..., None] / rates[..., None]
        return nearest @ rotation((vh.mT @ twist)[..., 0])

    def is_ambiguous(self, x: Points) -> Bool[Tensor, " b"]:
        """Return True for examples in which the nearest rotation of a matrix is not unique, as for reflections."""
        s, _ = _proper(*torch.linalg.svd(x))
        return (_gap(s) <= AMBIGUOUS).flatten(1).any(1)

    def to_tangent(self, x: Points, v: Points) -> Points:
        return x @ hat(vee(x.mT @ v))

    def norm(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        return safe_norm(v) / math.sqrt(2)


def _proper(u: Tensor, s: Tensor, vh: Tensor) -> tuple[Tensor, Tensor]:
    """Return singular values s and vectors vh with the last sign flipped where u vh is a reflection."""
    sign = torch.linalg.det(u @ vh).sign()[..., None]
    signs = torch.cat([torch.ones_like(sign).expand(*sign.shape[:-1], 2), sign], -1)
    return s * signs, signs[..., None] * vh


def _gap(s: Tensor) -> Tensor:
    """Return (s_2 + s_3) / s_1 for singular values s, the last one signed, [..., 1]; 0 for a zero matrix.

    Where it is 0, the nearest rotation of the matrix is not unique.
    """
    return (s[..., 1:2] + s[..., 2:]) / s[..., :1].clamp_min(torch.finfo(s.dtype).tiny)


def se3(shape: tuple[int, ...] = ()) -> Product:
    """Return the space of rigid motions: a rotation and a position, with the product metric."""
    return Product({"rotation": SO3(shape), "position": Euclidean((*shape, 3))})
