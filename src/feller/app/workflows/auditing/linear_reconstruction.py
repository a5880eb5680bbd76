"""Rows of a linear model, rebuilt by who knows all others, beside what bounds that."""

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
"""Rows that are attacked: so many of those with the least bounds, and of those with the largest, and of the others."""
RELEASES = 1_000
"""Noise is drawn so often for each."""
CHUNK_NUMBERS = 2**24
"""Numbers of rebuilt rows that are held at once."""
MAX_NOISE_RATIO = 0.05
"""Noise in what an answer is divided by, over that, up to which the attack answers right on average."""


@dataclass(frozen=True, eq=False)
class ReconstructedRows:
    """What an attack reaches of some rows, beside its bounds."""

    indices: Int64[Tensor, " m"]
    """Rows, by their places in what was learned from; from the most exposed to the least."""
    error: Float64[Tensor, " m"]
    """Mean squared error per number; as the attack answers."""
    clipped_error: Float64[Tensor, " m"]
    """The same with answers cut to what numbers can be, which has a bias."""
    is_unbiased: Bool[Tensor, " m"]
    """Whether the noise is so small that answers are right on average, to a part in a thousand."""
    is_below_bound: Bool[Tensor, " m"]
    """Whether an error of these lies below its bound."""
    mean: Float64[Tensor, "m d"]
    """Mean of what is answered, cut likewise."""


@dataclass(frozen=True, eq=False)
class LinearLeakage:
    """What noisy weights tell about the rows that they were found of."""

    solution: ERMSolution
    eta2: Float64[Tensor, " n"]
    """Information per number of each row; without noise infinite."""
    label_eta2: Float64[Tensor, " n"]
    """About the label of each."""
    mean_row_error: float
    """Mean squared error per number of answering the mean."""
    reconstructed: ReconstructedRows

    @property
    def numbers(self) -> dict[str, Any]:
        """Return what people hear of it."""
        rebuilt = self.reconstructed
        numbers = {
            "rebuilt_rows": len(rebuilt.indices),
            "rebuilt_error": rebuilt.error.median().item(),
            "rebuilt_error_known": rebuilt.clipped_error.mean().item(),
            "spread": self.mean_row_error,
        }
        if self.label_eta2.isinf().any():
            return numbers
        counts = {"rebuilt_steady": int(rebuilt.is_unbiased.sum()), "rebuilt_below": int(rebuilt.is_below_bound.sum())}
        return {**numbers, **counts, "label_least": (1 / self.label_eta2.max()).item()}


def rebuilt_rows(objective: OutputPerturbation, rows: Dataset, rho: float, rng: Rng) -> LinearLeakage:
    """Find what weights with noise tell about each row, and try to rebuild some from noise that is drawn anew.

    Args:
        objective: What the weights are the minimum of.
        rows: That they were found of.
        rho: That the noise cost; infinite without any.
        rng: Source of the noise of the attack, and of the rows that are attacked.
    """
    minimum = objective.solution(rows, rho)
    scale = objective.noise_std(len(rows), rho) if rho < torch.inf else 0.0
    numbers = torch.arange(minimum.x.shape[1], device=minimum.x.device) > 0  # all but the constant
    information = erm_leakage(minimum, scale or 1.0, numbers)
    eta2, labels = information.rows.eta2, information.labels.eta2
    which = _some(eta2, rng)
    if not scale:
        eta2, labels = torch.full_like(eta2, torch.inf), torch.full_like(labels, torch.inf)
    noise = scale * rng.stream("noise").normal((RELEASES if scale else 1, minimum.x.shape[1]), torch.float64)
    steady = _noise_ratio(minimum, which, scale) < MAX_NOISE_RATIO
    rebuilt = _reconstruct(minimum, which, minimum.theta + noise.to(minimum.theta), eta2[which], steady)
    return LinearLeakage(minimum, eta2, labels, minimum.x[:, 1:].var(0).mean().item(), rebuilt)


def _some(eta2: Float64[Tensor, " n"], rng: Rng) -> Int64[Tensor, " m"]:
    """Choose rows from the most exposed to the least."""
    order = eta2.argsort(descending=True)
    if len(order) <= 2 * EXTREME_ROWS + MIDDLE_ROWS:
        return order
    inner = (
        torch.randperm(len(order) - 2 * EXTREME_ROWS, generator=rng.stream("rows").shared_generator())[:MIDDLE_ROWS]
        .sort()
        .values
        + EXTREME_ROWS
    )
    return torch.cat([order[:EXTREME_ROWS], order[inner.to(order.device)], order[-EXTREME_ROWS:]])


def _noise_ratio(minimum: ERMSolution, indices: Tensor, scale: float) -> Float64[Tensor, " m"]:
    """Return the noise in the slope of the constant, by which the attack divides, over that slope."""
    x, whole = minimum.x[indices], torch.linalg.inv(minimum.inverse_hessian)
    slopes = whole[0] - minimum.curvatures[indices, None] * x[:, :1] * x
    return scale * slopes.norm(dim=1) / minimum.residuals[indices].abs()


def _reconstruct(
    minimum: ERMSolution, indices: Tensor, theta: Tensor, eta2: Tensor, steady: Tensor
) -> ReconstructedRows:
    x = minimum.x[indices, 1:]
    portion = max(1, CHUNK_NUMBERS // (x.numel() + len(minimum.x)))
    errors, clipped_errors, total = [], [], torch.zeros_like(x)
    for some in theta.split(portion):
        reconstruction, _ = reconstruct_rows(minimum.erm, minimum.x, minimum.y, some, indices)
        answer = reconstruction[..., 1:].nan_to_num(0.5, 1.0, 0.0)
        cut = answer.clamp(0, 1)
        errors.append((answer - x).square().mean(2))
        clipped_errors.append((cut - x).square().mean(2))
        total += cut.sum(0)
    error = torch.cat(errors)
    slack = NUM_STANDARD_ERRORS * error.std(0, correction=0) / len(error) ** 0.5
    below = steady & (error.mean(0) + slack < 1 / eta2)
    return ReconstructedRows(
        indices, error.mean(0), torch.cat(clipped_errors).mean(0), steady, below, total / len(theta)
    )
