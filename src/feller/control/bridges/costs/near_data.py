"""State cost from a kernel density estimate of data, which keeps trajectories near observed states such as cells."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.costs.gaussian_mixture import log_density, scott
from feller.control.bridges.costs.state_cost import PopulationDensity, StateCost
from feller.core.errors import InputError
from feller.core.rng import Rng

NEIGHBOURS = (3, 8, 20, 50)
"""Candidate values of k: an adaptive bandwidth is proportional to the distance of a point to its k-th neighbour."""
FACTORS = tuple(2 ** (k / 2) for k in range(-4, 5))
"""Candidate factors by which each bandwidth (adaptive or Scott's) is multiplied."""
NUM_VALIDATION = 500
"""Maximum number of points whose leave-one-out likelihood scores the candidate bandwidths."""


@dataclass(frozen=True, eq=False)
class DataDensityCost(StateCost):
    """Negative log density of a Gaussian kernel density estimate, minus its mean over the data: 0 for typical states.

    A cost difference of 1 corresponds to a factor of e in density.
    """

    centres: Float[Tensor, "k d"]
    bandwidths: Float[Tensor, " k"]
    """Standard deviation of each Gaussian kernel."""
    mean_log_density: float
    """Mean, over the data, of the log density of the estimate."""

    @staticmethod
    def fit(points: Float[Tensor, "n d"], rng: Rng, *, centres: int = 500) -> "DataDensityCost":
        """Fit a kernel density estimate; select the bandwidth with the highest leave-one-out likelihood.

        The candidates are Scott's bandwidth, and adaptive bandwidths proportional to each point's distance to its 3rd,
        8th, 20th or 50th nearest neighbour, each multiplied by factors from 1/4 to 4.

        Args:
            points: Data points.
            rng: Source of random numbers, which selects the centres and the points that score the bandwidths.
            centres: Maximum number of kernels; more kernels increase both accuracy and computation time.

        Raises:
            InputError: If there are fewer than 5 points, or all points are equal.
        """
        if len(points) < 5 or not (points != points[0]).any():
            raise InputError("a data density needs at least 5 points, not all equal", found=len(points))
        order = torch.randperm(len(points), generator=rng.stream("centres").shared_generator()).to(points.device)
        kernels, validation = points[order[:centres]].double(), points[order[-NUM_VALIDATION:]].double()
        distances_sq = torch.cdist(validation, kernels, compute_mode="donot_use_mm_for_euclid_dist").square()
        is_self = order[-NUM_VALIDATION:, None] == order[None, :centres]
        best = max(
            (
                (_likelihood(distances_sq, is_self, bandwidths, points.shape[1]), bandwidths)
                for bandwidths in _candidates(kernels)
            ),
            key=lambda candidate: candidate[0],
        )
        return DataDensityCost(kernels.to(points.dtype), best[1].to(points.dtype), best[0])

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> Tensor:
        flat = x.reshape(1, -1, x.shape[-1])
        log_densities = log_density(flat, self.centres.to(x)[None], self.bandwidths.to(x)[None])
        return self.mean_log_density - log_densities.reshape(x.shape[:-1])


def _candidates(centres: Float[Tensor, "k d"]) -> Iterator[Float[Tensor, " k"]]:
    k, d = centres.shape
    scott_width = scott(centres[None]).expand(k)
    distances = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values
    bases = [scott_width, *(distances[:, rank] / d**0.5 for rank in NEIGHBOURS if rank < k)]
    for base in bases:
        min_width = 1e-3 * scott_width  # duplicated points have distance 0
        for factor in FACTORS:
            yield torch.maximum(factor * base, min_width)


def _likelihood(distances_sq: Float[Tensor, "m k"], is_self: Tensor, widths: Float[Tensor, " k"], d: int) -> float:
    """Return the mean log density of points under a kernel density of the data without the point itself.

    `is_self` marks the entries of `distances_sq` between a point and itself, and `widths` are the kernel widths.
    """
    logs = -distances_sq / (2 * widths.square()) - d * widths.log() - d / 2 * torch.log(widths.new_tensor(2 * torch.pi))
    log_count = (~is_self).sum(1).to(logs).log()
    return float((logs.masked_fill(is_self, -torch.inf).logsumexp(1) - log_count).mean())
