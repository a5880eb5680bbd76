"""Covariance matrices, diffusion tensors: symmetric positive definite matrices.

Source: Pennec, Fillard and Ayache 2006, "A Riemannian framework for tensor computing", International Journal of
Computer Vision 66.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import RandomStream
from feller.spaces.manifold import Manifold
from feller.spaces.safe_math import safe_norm, sinhc
from feller.spaces.space import Points


def symmetric(a: Float[Tensor, "*d n n"]) -> Float[Tensor, "*d n n"]:
    """Return the symmetric part."""
    return (a + a.mT) / 2


def exponential(a: Float[Tensor, "*d n n"]) -> Float[Tensor, "*d n n"]:
    """Return the exponential; torch's takes only arrays without gaps."""
    return torch.linalg.matrix_exp(a.contiguous())


def _implicit_derivatives(value: Tensor, u: Tensor, slopes: Tensor, residual: Callable[[Tensor], Tensor]) -> Tensor:
    """Give a matrix that solves miss(value) = 0 its first and second derivatives.

    The derivatives of eigenvectors do not exist where eigenvalues repeat, those of the solution do. Each step of
    Newton's method with a constant slope brings one more order; the value of the steps, which is rounding, is left out.
    """
    for _ in range(2):
        rest = residual(value)
        value = value + u @ ((u.mT @ (rest - rest.detach()) @ u) / slopes) @ u.mT
    return value


def log_of_sum(e: Float[Tensor, "*d n n"]) -> Float[Tensor, "*d n n"]:
    """Return the logarithm of I + e, for symmetric e, without rounding small e."""
    eye = torch.eye(e.shape[-1], dtype=e.dtype, device=e.device)
    values, u = torch.linalg.eigh(symmetric(e).detach())
    logs = torch.log1p(values.clamp_min(torch.finfo(e.dtype).eps - 1))
    i, j = logs[..., :, None], logs[..., None, :]
    slopes = ((i + j) / 2).exp() * sinhc((i - j).square() / 4)
    value = (u * logs[..., None, :]) @ u.mT
    return _implicit_derivatives(value, u, slopes, lambda value: symmetric(e) + eye - exponential(value))


def root_of_sum(e: Float[Tensor, "*d n n"]) -> Float[Tensor, "*d n n"]:
    """Return the positive square root of I + e, for symmetric e."""
    eye = torch.eye(e.shape[-1], dtype=e.dtype, device=e.device)
    values, u = torch.linalg.eigh(symmetric(e).detach())
    roots = (1 + values).clamp_min(torch.finfo(e.dtype).eps).sqrt()
    value = (u * roots[..., None, :]) @ u.mT
    slopes = roots[..., :, None] + roots[..., None, :]
    return _implicit_derivatives(value, u, slopes, lambda value: symmetric(e) + eye - value @ value)


MAX_STEP_NORM = 30.0
"""Longest step, in the metric: a factor of 1e13 in one direction makes a matrix singular to any precision."""


def _cholesky(x: Tensor) -> Tensor:
    """Return L of x = L L^T, in float64: single precision would lose matrices that are nearly singular."""
    return torch.linalg.cholesky(x.double())


def _whiten(lower: Tensor, v: Tensor) -> Tensor:
    """Return L^-1 v L^-T: v seen from a point L L^T as if it were the identity, which the metric does not notice."""
    half = torch.linalg.solve_triangular(lower, v.to(lower.dtype), upper=False)
    return symmetric(torch.linalg.solve_triangular(lower, half.mT, upper=False))


@dataclass(frozen=True)
class SPD(Manifold):
    """Symmetric positive definite n x n matrices with the affine-invariant metric, tr(X^-1 V X^-1 V).

    The source is a normal law in the tangent space at the identity. States that are not positive definite raise
    `torch.linalg.LinAlgError`.
    """

    n: int = 2
    """Rows of one matrix."""
    shape: tuple[int, ...] = ()
    """How the matrices of one example are arranged."""

    @property
    def dimension(self) -> int:
        return self.n * (self.n + 1) // 2 * math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        normal = symmetric(rng.normal((n, *self.shape, self.n, self.n), device=device))
        half = exponential(normal / 2)
        return symmetric(half @ half.mT)

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        """Return the log density of the normal law, less the log growth of volume along geodesics."""
        logs = torch.linalg.eigvalsh(x).log()
        growth = sinhc((logs[..., :, None] - logs[..., None, :]).square() / 4).log()
        each = -logs.square().sum(-1) / 2 - growth.sum((-1, -2)) / 2
        return each.reshape(len(x), -1).sum(1) - self.dimension * math.log(2 * math.pi) / 2

    def exp(self, x: Points, v: Points) -> Points:
        """Take the exponential of v, seen from x; a product with its transpose stays positive."""
        lower = _cholesky(x)
        step = _whiten(lower, v)
        long = (
            step.square().sum((-2, -1), keepdim=True).clamp_min(MAX_STEP_NORM**2)
        )  # has a derivative at 0, as a norm has not
        half = lower @ exponential(step * (MAX_STEP_NORM / long.sqrt()) / 2)
        return self.project(symmetric(half @ half.mT).to(x.dtype))

    def log(self, x: Points, y: Points) -> Points:
        lower = _cholesky(x)
        return symmetric(lower @ log_of_sum(_whiten(lower, y - x)) @ lower.mT).to(x.dtype)

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        """Multiply v on both sides by the square root of y x^-1."""
        lower = _cholesky(x)
        half = lower @ root_of_sum(_whiten(lower, y - x))
        return symmetric(half @ _whiten(lower, v) @ half.mT).to(v.dtype)

    def project(self, x: Points) -> Points:
        """Take the symmetric part, and raise eigenvalues that are not positive in the working precision."""
        x = symmetric(x)
        values, u = torch.linalg.eigh(x.detach())
        precision = torch.finfo(x.dtype)
        min_eigenvalue = (100 * precision.eps * values.abs().amax(-1, keepdim=True)).clamp_min(precision.tiny)
        return symmetric(x + (u * (min_eigenvalue - values).relu()[..., None, :]) @ u.mT)

    def to_tangent(self, x: Points, v: Points) -> Points:
        return symmetric(v)

    def whiten_probe(self, x: Points, z: Points) -> tuple[Tensor, Tensor]:
        """Return L z L^T and L^-T z L^-1 for x = L L^T: both are z, seen from x."""
        lower, z = _cholesky(x), symmetric(z)
        dual = torch.linalg.solve_triangular(lower.mT, z.to(lower.dtype), upper=True)
        dual = torch.linalg.solve_triangular(lower.mT, dual.mT, upper=True)
        return symmetric(lower @ z.to(lower.dtype) @ lower.mT).to(z.dtype), symmetric(dual).to(z.dtype)

    def norm(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        return safe_norm(_whiten(_cholesky(x), v)).to(v.dtype)

    def distance(self, x: Points, y: Points) -> Float[Tensor, " b"]:
        return safe_norm(log_of_sum(_whiten(_cholesky(x), y - x))).to(x.dtype)

    def log_volume_rate(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        """Return the growth of det(x)^(-(n + 1) / 2)."""
        trace = torch.diagonal(_whiten(_cholesky(x), v), dim1=-2, dim2=-1)
        return (-(self.n + 1) / 2 * trace.flatten(1).sum(1)).to(v.dtype)
