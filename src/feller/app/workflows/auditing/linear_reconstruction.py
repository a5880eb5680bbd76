"""Reconstruction attack on single training rows of a linear model by an attacker who knows all other rows."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.attacks.reconstruction import NUM_STANDARD_ERRORS
from feller.privacy.erm.regularized_erm import ERMSolution
from feller.privacy.erm.weight_release import erm_leakage, reconstruct_rows
from feller.training.objectives.output_perturbation import OutputPerturbation

EXTREME_ROWS, MIDDLE_ROWS = 8, 48
"""Number of attacked rows at each extreme (most exposed, least exposed), and of random rows between the extremes."""
RELEASES = 1_000
"""Number of noise draws (releases of the weights) per attacked row."""
CHUNK_NUMBERS = 2**24
"""Maximum number of values of reconstructed rows held in memory together."""
MAX_NOISE_RATIO = 0.05
"""Maximum relative standard deviation of the attack's noisy divisor for which a reconstruction counts as unbiased."""


@dataclass(frozen=True, eq=False)
class ReconstructedRows:
    """Errors of the reconstruction attack on some rows, compared with their lower bounds."""

    indices: Int64[Tensor, " m"]
    """Indices of the attacked rows in the training set, from the most exposed row to the least exposed row."""
    error: Float64[Tensor, " m"]
    """Mean squared error per coordinate of the unclipped reconstruction."""
    clipped_error: Float64[Tensor, " m"]
    """Mean squared error per coordinate of the reconstruction clipped to [0, 1], which is biased."""
    is_unbiased: Bool[Tensor, " m"]
    """True for each row whose reconstruction has so little noise that its relative bias is at most about 1e-3."""
    is_below_bound: Bool[Tensor, " m"]
    """True for each row whose reconstruction is unbiased and has an error below the lower bound, which should not
    happen."""
    mean: Float64[Tensor, "m d"]
    """Mean of the clipped reconstructions of each row over the noise draws."""


@dataclass(frozen=True, eq=False)
class LinearLeakage:
    """Leakage of training rows through noisy linear weights: Fisher information loss and reconstruction errors."""

    solution: ERMSolution
    eta2: Float64[Tensor, " n"]
    """Fisher information that the weights contain about each row, per coordinate; infinite without noise."""
    label_eta2: Float64[Tensor, " n"]
    """Fisher information that the weights contain about the label of each row; infinite without noise."""
    mean_row_error: float
    """Mean squared error per coordinate of an attacker who guesses the mean row."""
    reconstructed: ReconstructedRows

    @property
    def numbers(self) -> dict[str, Any]:
        """Metrics of the report."""
        reconstructed = self.reconstructed
        metrics = {
            "rebuilt_rows": len(reconstructed.indices),
            "rebuilt_error": reconstructed.error.median().item(),
            "rebuilt_error_known": reconstructed.clipped_error.mean().item(),
            "spread": self.mean_row_error,
        }
        if self.label_eta2.isinf().any():
            return metrics
        counts = {
            "rebuilt_steady": int(reconstructed.is_unbiased.sum()),
            "rebuilt_below": int(reconstructed.is_below_bound.sum()),
        }
        return {**metrics, **counts, "label_least": (1 / self.label_eta2.max()).item()}


def rebuilt_rows(objective: OutputPerturbation, rows: Dataset, rho: float, rng: Rng) -> LinearLeakage:
    """Compute the Fisher information loss of each row; attack some rows through weights with newly drawn noise.

    Args:
        objective: Objective of the released linear model.
        rows: Training rows.
        rho: zCDP budget of the release, which determines the noise; infinite for no noise.
        rng: Source of random numbers for the noise and the choice of attacked rows.
    """
    solution = objective.solution(rows, rho)
    scale = objective.noise_std(len(rows), rho) if rho < torch.inf else 0.0
    is_feature = torch.arange(solution.x.shape[1], device=solution.x.device) > 0  # all but the intercept
    information = erm_leakage(solution, scale or 1.0, is_feature)
    eta2, label_eta2 = information.rows.eta2, information.labels.eta2
    indices = _some(eta2, rng)
    if not scale:
        eta2, label_eta2 = torch.full_like(eta2, torch.inf), torch.full_like(label_eta2, torch.inf)
    noise = scale * rng.stream("noise").normal((RELEASES if scale else 1, solution.x.shape[1]), torch.float64)
    is_unbiased = _noise_ratio(solution, indices, scale) < MAX_NOISE_RATIO
    reconstructed = _reconstruct(
        solution, indices, solution.theta + noise.to(solution.theta), eta2[indices], is_unbiased
    )
    return LinearLeakage(solution, eta2, label_eta2, solution.x[:, 1:].var(0).mean().item(), reconstructed)


def _some(eta2: Float64[Tensor, " n"], rng: Rng) -> Int64[Tensor, " m"]:
    order = eta2.argsort(descending=True)
    if len(order) <= 2 * EXTREME_ROWS + MIDDLE_ROWS:
        return order
    middle = (
        torch.randperm(len(order) - 2 * EXTREME_ROWS, generator=rng.stream("rows").shared_generator())[:MIDDLE_ROWS]
        .sort()
        .values
        + EXTREME_ROWS
    )
    return torch.cat([order[:EXTREME_ROWS], order[middle.to(order.device)], order[-EXTREME_ROWS:]])


def _noise_ratio(solution: ERMSolution, indices: Tensor, scale: float) -> Float64[Tensor, " m"]:
    """Return noise over signal of the gradient of the intercept, by which the attack divides, for each row."""
    x, hessian = solution.x[indices], torch.linalg.inv(solution.inverse_hessian)
    gradients = hessian[0] - solution.curvatures[indices, None] * x[:, :1] * x
    return scale * gradients.norm(dim=1) / solution.residuals[indices].abs()


def _reconstruct(
    solution: ERMSolution, indices: Tensor, theta: Tensor, eta2: Tensor, is_unbiased: Tensor
) -> ReconstructedRows:
    x = solution.x[indices, 1:]
    chunk_size = max(1, CHUNK_NUMBERS // (x.numel() + len(solution.x)))
    errors, clipped_errors, total = [], [], torch.zeros_like(x)
    for chunk in theta.split(chunk_size):
        reconstruction, _ = reconstruct_rows(solution.erm, solution.x, solution.y, chunk, indices)
        estimates = reconstruction[..., 1:].nan_to_num(0.5, 1.0, 0.0)
        clipped = estimates.clamp(0, 1)
        errors.append((estimates - x).square().mean(2))
        clipped_errors.append((clipped - x).square().mean(2))
        total += clipped.sum(0)
    error = torch.cat(errors)
    tolerance = NUM_STANDARD_ERRORS * error.std(0, correction=0) / len(error) ** 0.5  # Monte Carlo error of the mean
    is_below_bound = is_unbiased & (error.mean(0) + tolerance < 1 / eta2)
    return ReconstructedRows(
        indices, error.mean(0), torch.cat(clipped_errors).mean(0), is_unbiased, is_below_bound, total / len(theta)
    )
