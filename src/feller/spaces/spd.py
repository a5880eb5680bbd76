"""Symmetric positive definite matrices, such as covariances and diffusion tensors.

Source: Pennec, Fillard and Ayache 2006, "A Riemannian framework for tensor computing", International Journal of
Computer Vision 66.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_integer
from feller.core.rng import RandomStream
from feller.spaces.manifold import Manifold
from feller.spaces.safe_math import safe_norm, sinhc
from feller.spaces.space import Points


def symmetric(a: Float[Tensor, "*d n n"]) -> Float[Tensor, "*d n n"]:
    """Return the symmetric part of a matrix."""
    return (a + a.mT) / 2


def exponential(a: Float[Tensor, "*d n n"]) -> Float[Tensor, "*d n n"]:
    """Return the matrix exponential; `a` is made contiguous, as torch requires."""
    return torch.linalg.matrix_exp(a.contiguous())


def _implicit_derivatives(value: Tensor, u: Tensor, jacobian: Tensor, residual: Callable[[Tensor], Tensor]) -> Tensor:
    """Attach first and second derivatives to a solution of residual(value) = 0.

    Eigenvectors are not differentiable where eigenvalues repeat, but the solution is. Each Newton step with a constant
    Jacobian adds one order of derivatives. The value of the step is only rounding error and is subtracted.
    """
    for _ in range(2):
        error = residual(value)
        value = value + u @ ((u.mT @ (error - error.detach()) @ u) / jacobian) @ u.mT
    return value


def log_of_sum(e: Float[Tensor, "*d n n"]) -> Float[Tensor, "*d n n"]:
    """Return the matrix logarithm of I + e for symmetric e, precise for small e."""
    eye = torch.eye(e.shape[-1], dtype=e.dtype, device=e.device)
    eigenvalues, u = torch.linalg.eigh(symmetric(e).detach())
    logs = torch.log1p(eigenvalues.clamp_min(torch.finfo(e.dtype).eps - 1))
    i, j = logs[..., :, None], logs[..., None, :]
    jacobian = ((i + j) / 2).exp() * sinhc((i - j).square() / 4)
    value = (u * logs[..., None, :]) @ u.mT
    return _implicit_derivatives(value, u, jacobian, lambda value: symmetric(e) + eye - exponential(value))


def root_of_sum(e: Float[Tensor, "*d n n"]) -> Float[Tensor, "*d n n"]:
    """Return the positive square root of I + e for symmetric e."""
    eye = torch.eye(e.shape[-1], dtype=e.dtype, device=e.device)
    eigenvalues, u = torch.linalg.eigh(symmetric(e).detach())
    roots = (1 + eigenvalues).clamp_min(torch.finfo(e.dtype).eps).sqrt()
    value = (u * roots[..., None, :]) @ u.mT
    jacobian = roots[..., :, None] + roots[..., None, :]
    return _implicit_derivatives(value, u, jacobian, lambda value: symmetric(e) + eye - value @ value)


MAX_STEP_NORM = 30.0
"""Maximum Riemannian norm of a step; exp(30) = 1e13 in one direction makes a matrix numerically singular."""


def _cholesky(x: Tensor) -> Tensor:
    """Return L of x = L L^T in float64; float32 fails for nearly singular matrices."""
    return torch.linalg.cholesky(x.double())


def _whiten(lower: Tensor, v: Tensor) -> Tensor:
    """Return L^-1 v L^-T, the isometry from the tangent space at L L^T to that at the identity."""
    half_whitened = torch.linalg.solve_triangular(lower, v.to(lower.dtype), upper=False)
    return symmetric(torch.linalg.solve_triangular(lower, half_whitened.mT, upper=False))


@dataclass(frozen=True)
class SPD(Manifold):
    """Symmetric positive definite n x n matrices with the affine-invariant metric, tr(X^-1 V X^-1 V).

    The source is a wrapped normal distribution at the identity. States that are not positive definite raise
    `torch.linalg.LinAlgError`.
    """

    n: int = 2
    """Number of rows of one matrix."""
    shape: tuple[int, ...] = ()
    """Shape of the array of matrices in one example."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("n", self.n, ge=1)

    @property
    def dimension(self) -> int:
        return self.n * (self.n + 1) // 2 * math.prod(self.shape)

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        normal = symmetric(rng.normal((n, *self.shape, self.n, self.n), device=device))
        root = exponential(normal / 2)
        return symmetric(root @ root.mT)

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        """Return the log density of the wrapped normal, corrected by the log-determinant of the exponential map."""
        logs = torch.linalg.eigvalsh(x).log()
        log_stretch = sinhc((logs[..., :, None] - logs[..., None, :]).square() / 4).log()
        log_probs = -logs.square().sum(-1) / 2 - log_stretch.sum((-1, -2)) / 2
        return log_probs.reshape(len(x), -1).sum(1) - self.dimension * math.log(2 * math.pi) / 2

    def exp(self, x: Points, v: Points) -> Points:
        """Compute the exponential map as a matrix times its transpose, so that the result stays positive."""
        lower = _cholesky(x)
        whitened = _whiten(lower, v)
        # squared, because a norm has no derivative at 0
        square_norm = whitened.square().sum((-2, -1), keepdim=True).clamp_min(MAX_STEP_NORM**2)
        root = lower @ exponential(whitened * (MAX_STEP_NORM / square_norm.sqrt()) / 2)
        return self.project(symmetric(root @ root.mT).to(x.dtype))

    def log(self, x: Points, y: Points) -> Points:
        lower = _cholesky(x)
        return symmetric(lower @ log_of_sum(_whiten(lower, y - x)) @ lower.mT).to(x.dtype)

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        """Parallel-transport v from x to y: E v E^T, where E is the square root of y x^-1."""
        lower = _cholesky(x)
        factor = lower @ root_of_sum(_whiten(lower, y - x))
        return symmetric(factor @ _whiten(lower, v) @ factor.mT).to(v.dtype)

    def project(self, x: Points) -> Points:
        """Symmetrize, and raise eigenvalues that are not positive in the working precision."""
        x = symmetric(x)
        eigenvalues, u = torch.linalg.eigh(x.detach())
        finfo = torch.finfo(x.dtype)
        min_eigenvalue = (100 * finfo.eps * eigenvalues.abs().amax(-1, keepdim=True)).clamp_min(finfo.tiny)
        return symmetric(x + (u * (min_eigenvalue - eigenvalues).relu()[..., None, :]) @ u.mT)

    def to_tangent(self, x: Points, v: Points) -> Points:
        return symmetric(v)

    def whiten_probe(self, x: Points, z: Points) -> tuple[Tensor, Tensor]:
        """Return L z L^T and its dual L^-T z L^-1, with x = L L^T."""
        lower, z = _cholesky(x), symmetric(z)
        dual = torch.linalg.solve_triangular(lower.mT, z.to(lower.dtype), upper=True)
        dual = torch.linalg.solve_triangular(lower.mT, dual.mT, upper=True)
        return symmetric(lower @ z.to(lower.dtype) @ lower.mT).to(z.dtype), symmetric(dual).to(z.dtype)

    def norm(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        return safe_norm(_whiten(_cholesky(x), v)).to(v.dtype)

    def distance(self, x: Points, y: Points) -> Float[Tensor, " b"]:
        return safe_norm(log_of_sum(_whiten(_cholesky(x), y - x))).to(x.dtype)

    def log_volume_rate(self, x: Points, v: Points) -> Float[Tensor, " b"]:
        """Return the derivative along v of log det(x)^(-(n + 1) / 2), the log volume element."""
        diagonal = torch.diagonal(_whiten(_cholesky(x), v), dim1=-2, dim2=-1)
        return (-(self.n + 1) / 2 * diagonal.flatten(1).sum(1)).to(v.dtype)
