"""Fisher information of noisy sums about single rows, and bounds on the reconstruction error derived from it.

An unbiased attacker who knows all other rows has a mean squared error of at least 1 / eta2 per coordinate. Here eta2 =
Tr(I) / d (dFIL), and I is the Fisher information of all releases about the row's d coordinates, at their true value.
Information adds up over steps, each conditional on the previous steps; its expectation is estimated from a single
training run. Per-row values are private data themselves: do not release them with the model.
Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383; worst direction: Hannun, Guo and van der
Maaten 2021, arXiv 2102.11673. The exact subsampling factors are new here.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.leakage.reconstruction_bounds import van_trees

INTEGRATION_RANGE = 12.0
"""Integration range, in standard deviations of the noise."""
MAX_POINTS = 2**12
"""Maximum number of quadrature points; where rho needs more points, both factors are nearly 1."""
CHUNK_SIZE = 2**22
"""Maximum number of integrand values held in memory per chunk."""


@dataclass(frozen=True)
class MixtureFactors:
    """Factors by which Poisson sampling reduces a row's Fisher information, in addition to the sampling rate q."""

    orthogonal: Float[Tensor, " b"]
    """Factor for directions orthogonal to the row's gradient."""
    radial: Float[Tensor, " b"]
    """Factor for the direction of the row's gradient."""


def mixture_factors(rate: float, rho: Float[Tensor, " b"]) -> MixtureFactors:
    """Return the orthogonal factor E[w] and the radial factor E[u^2 w], computed by quadrature.

    Here u ~ N(0, 1) and w = q / (q + (1 - q) e^(-rho^2 / 2 - rho u)).

    Args:
        rate: Sampling rate q.
        rho: Norm of the row's contribution, in standard deviations of the noise.
    """
    rho = rho.double()
    if rate == 1:
        return MixtureFactors(torch.ones_like(rho), torch.ones_like(rho))
    max_rho = rho.max().item() if len(rho) else 0.0
    num_points = min(
        MAX_POINTS, 1 + math.ceil(2 * INTEGRATION_RANGE / min(0.1, 0.5 / max(max_rho, 1e-3)))
    )  # the trapezoidal rule converges exponentially; poles lie pi / rho from the real axis
    u = torch.linspace(-INTEGRATION_RANGE, INTEGRATION_RANGE, num_points, dtype=torch.float64, device=rho.device)
    weights = (-u.square() / 2).exp() * ((u[1] - u[0]) / math.sqrt(2 * math.pi))
    moment_weights = torch.stack([weights, weights * u.square()], 1)
    log_odds = math.log(rate) - math.log1p(-rate)
    chunks = [
        (log_odds + chunk[:, None].square() / 2 + chunk[:, None] * u).sigmoid() @ moment_weights
        for chunk in rho.split(max(1, CHUNK_SIZE // num_points))
    ]
    orthogonal, radial = torch.cat(chunks).unbind(1) if chunks else (rho, rho)
    return MixtureFactors(orthogonal, radial)


def subsampled_fisher_trace(
    rate: float,
    scale: float,
    norms: Float[Tensor, " b"],
    frobenius_sq: Float[Tensor, " b"],
    radial_sq: Float[Tensor, " b"],
) -> Float[Tensor, " b"]:
    """Return the trace of each row's Fisher information in one noisy sum over a Poisson sample.

    The trace is q / scale^2 (A (|J|^2 - |g J|^2) + B |g J|^2), where A is the orthogonal and B the radial factor of
    `mixture_factors`.

    Args:
        rate: Sampling rate q.
        scale: Standard deviation of the noise of each entry of the sum.
        norms: Norm of each row's contribution to the sum, such as its clipped gradient.
        frobenius_sq: |J|^2, where J is the Jacobian of the contribution with respect to the row; or an unbiased
            estimate.
        radial_sq: |g J|^2, where g is the unit vector of the contribution; or an unbiased estimate.
    """
    factors = mixture_factors(rate, norms.double() / scale)
    frobenius_sq, radial_sq = frobenius_sq.double(), radial_sq.double()
    return rate / scale**2 * (factors.orthogonal * (frobenius_sq - radial_sq) + factors.radial * radial_sq)


def subsampled_fisher(
    rate: float,
    scale: float,
    norms: Float[Tensor, " b"],
    gram: Float[Tensor, "b d d"],
    radial_jacobian: Float[Tensor, "b d"],
) -> Float[Tensor, "b d d"]:
    """Return the matrix of each row's Fisher information in one noisy sum over a Poisson sample.

    `gram` is J^T J and `radial_jacobian` is g J, where J is the Jacobian of the row's contribution with respect to the
    row, and g is the unit vector of the contribution. Other arguments are those of `subsampled_fisher_trace`.
    """
    factors = mixture_factors(rate, norms.double() / scale)
    radial = radial_jacobian.double()[:, :, None] * radial_jacobian.double()[:, None, :]
    orthogonal = factors.orthogonal[:, None, None] * (gram.double() - radial)
    return rate / scale**2 * (orthogonal + factors.radial[:, None, None] * radial)


def max_eigenvalue(information: Float[Tensor, "b d d"]) -> Float[Tensor, " b"]:
    """Return the largest eigenvalue e of each Fisher information matrix.

    1 / sqrt(e) is the lower bound on the error of an unbiased attack in the most exposed direction.
    """
    return torch.linalg.eigvalsh(information)[:, -1]


def unbiased_mse_bound(eta2: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return 1 / eta2, the lower bound on an unbiased attack's MSE per coordinate; infinite without leakage."""
    return 1 / eta2


@dataclass(frozen=True)
class FisherLeakage:
    """Fisher information loss of each row, accumulated over training steps."""

    traces: Float[Tensor, " b"]
    """Trace of the Fisher information about each row, summed over steps."""
    dim: int
    """Number of measured coordinates per row, d."""
    steps: int = 0
    """Number of measured steps."""

    def __post_init__(self) -> None:
        check_number("dim", self.dim, ge=1)

    @staticmethod
    def zeros(rows: int, coordinates: int) -> "FisherLeakage":
        """Return the information loss before the first step: zero for each of `rows` rows.

        `coordinates` is the number of measured coordinates per row.
        """
        return FisherLeakage(torch.zeros(rows, dtype=torch.float64), coordinates)

    def add_step(self, traces: Float[Tensor, " b"], times: float = 1.0) -> "FisherLeakage":
        """Return the information loss with the information of one more measured step added.

        Args:
            traces: Trace of the Fisher information of the step, per row.
            times: Number of steps that this measurement stands for.

        Raises:
            UsageError: If the number of rows differs, or a value is not finite.
        """
        if traces.shape != self.traces.shape:
            raise UsageError(f"traces of {len(self.traces)} rows", len(traces))
        if not traces.isfinite().all():
            raise UsageError("finite Fisher information", "NaN or infinity", "Use smooth layers, for example GELU")
        return replace(self, traces=self.traces + times * traces.to(self.traces), steps=self.steps + 1)

    @property
    def eta2(self) -> Float[Tensor, " b"]:
        """Fisher information loss per coordinate (dFIL) of each row."""
        return self.traces / self.dim

    def mse_bound(self) -> Float[Tensor, " b"]:
        """Return the lower bound on an unbiased attack's mean squared error per coordinate."""
        return unbiased_mse_bound(self.eta2)

    def mse_bound_with_prior(self, spread: float) -> Float[Tensor, " b"]:
        """Return the lower bound on any attack's mean squared error per coordinate, for a Gaussian prior of the rows.

        `spread` is the standard deviation of the prior for each coordinate. See `van_trees`.
        """
        return van_trees(self.eta2, spread)
