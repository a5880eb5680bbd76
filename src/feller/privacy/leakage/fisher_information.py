"""What noisy sums tell about one row, as Fisher information: a bound of the error for each row.

Whoever knows all other rows and answers without bias errs by 1 / eta2 per coordinate at least, in the mean square,
where eta2 = Tr(I) / d and I is the information that all that is told has about the row's d coordinates, at their value.
Information of steps adds up, each given those before; that of the one training that is run stands for their mean.
Figures of single rows are about single people: they are for whoever holds the rows, and not told with the model.
Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383; Hannun, Guo and van der Maaten 2021, arXiv
2102.11673, for the worst direction. The exact law of a sampled row is ours.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.leakage.reconstruction_bounds import van_trees

INTEGRATION_RANGE = 12.0
"""Standard deviations of the noise that an integral goes over."""
MAX_POINTS = 2**12
"""Of an integral; a longer pull is recognised anyway."""
CHUNK_SIZE = 2**22
"""Numbers of integrands that are laid out beside each other."""


@dataclass(frozen=True)
class MixtureFactors:
    """What is left of a row's information because nobody knows whether it was in the sample, beside the chance q."""

    orthogonal: Float[Tensor, " b"]
    """In directions across its pull."""
    radial: Float[Tensor, " b"]
    """In the direction of its pull."""


def mixture_factors(rate: float, rho: Float[Tensor, " b"]) -> MixtureFactors:
    """Return E[w] and E[u^2 w] of u ~ N(0, 1), w = q / (q + (1 - q) e^(-rho^2 / 2 - rho u)), by quadrature.

    Args:
        rate: Chance q of a row to be in the sample, by a coin of its own.
        rho: Length of what the row adds, in standard deviations of the noise.
    """
    rho = rho.double()
    if rate == 1:
        return MixtureFactors(torch.ones_like(rho), torch.ones_like(rho))
    longest = rho.max().item() if len(rho) else 0.0
    points = min(
        MAX_POINTS, 1 + math.ceil(2 * INTEGRATION_RANGE / min(0.1, 0.5 / max(longest, 1e-3)))
    )  # poles lie pi / rho away
    u = torch.linspace(-INTEGRATION_RANGE, INTEGRATION_RANGE, points, dtype=torch.float64, device=rho.device)
    mass = (-u.square() / 2).exp() * ((u[1] - u[0]) / math.sqrt(2 * math.pi))
    sums = torch.stack([mass, mass * u.square()], 1)
    odds = math.log(rate) - math.log1p(-rate)
    found = [
        (odds + part[:, None].square() / 2 + part[:, None] * u).sigmoid() @ sums
        for part in rho.split(max(1, CHUNK_SIZE // points))
    ]
    across, along = torch.cat(found).unbind(1) if found else (rho, rho)
    return MixtureFactors(across, along)


def subsampled_fisher_trace(
    rate: float,
    scale: float,
    norms: Float[Tensor, " b"],
    frobenius_sq: Float[Tensor, " b"],
    radial_sq: Float[Tensor, " b"],
) -> Float[Tensor, " b"]:
    """Return Tr I of one noisy sum over a Poisson sample: q / scale^2 (A (|J|^2 - |g J|^2) + B |g J|^2).

    Args:
        rate: Chance q of a row to be in the sample.
        scale: Standard deviation of the noise of each entry of the sum.
        norms: Length of what each row adds.
        frobenius_sq: Squared size |J|^2 of the Jacobian of what it adds, by the row; or an estimate without bias.
        radial_sq: Squared size |g J|^2 of its part along g, the direction of what the row adds; or an estimate as
            well.
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
    """Return the information I of one noisy sum over a Poisson sample, with all directions, from J^T J and g J."""
    factors = mixture_factors(rate, norms.double() / scale)
    along = radial_jacobian.double()[:, :, None] * radial_jacobian.double()[:, None, :]
    across = factors.orthogonal[:, None, None] * (gram.double() - along)
    return rate / scale**2 * (across + factors.radial[:, None, None] * along)


def max_eigenvalue(information: Float[Tensor, "b d d"]) -> Float[Tensor, " b"]:
    """Return the largest eigenvalue: some combination of a row's coordinates is known to within one over its root."""
    return torch.linalg.eigvalsh(information)[:, -1]


def unbiased_mse_bound(eta2: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return 1 / eta2, the least mean squared error per coordinate of an attack without bias; infinite without leak."""
    return 1 / eta2


@dataclass(frozen=True)
class FisherLeakage:
    """What was told about some rows so far."""

    traces: Float[Tensor, " b"]
    """Sum over steps of the trace of the information about each row."""
    dim: int
    """Of a row, d; those of a block where it is about some alone."""
    steps: int = 0
    """That were looked at."""

    def __post_init__(self) -> None:
        check_number("dim", self.dim, ge=1)

    @staticmethod
    def zeros(rows: int, coordinates: int) -> "FisherLeakage":
        """Return what is told about rows before the first step."""
        return FisherLeakage(torch.zeros(rows, dtype=torch.float64), coordinates)

    def add_step(self, traces: Float[Tensor, " b"], times: float = 1.0) -> "FisherLeakage":
        """Return the leakage after one more step.

        Args:
            traces: Of the information that it gave, for each row.
            times: Steps for which this one stands, where only some are looked at.

        Raises:
            UsageError: If it is about other rows, or not finite.
        """
        if traces.shape != self.traces.shape:
            raise UsageError(f"what a step tells about {len(self.traces)} rows", len(traces))
        if not traces.isfinite().all():
            raise UsageError("the information of a step is not finite; the network may have a kink, or no slope")
        return replace(self, traces=self.traces + times * traces.to(self.traces), steps=self.steps + 1)

    @property
    def eta2(self) -> Float[Tensor, " b"]:
        """Information per coordinate."""
        return self.traces / self.dim

    def mse_bound(self) -> Float[Tensor, " b"]:
        """Return the least mean squared error per coordinate of an attack without bias."""
        return unbiased_mse_bound(self.eta2)

    def mse_bound_with_prior(self, spread: float) -> Float[Tensor, " b"]:
        """Return the least one of whoever knows the coordinates to within a spread: see `van_trees`."""
        return van_trees(self.eta2, spread)
