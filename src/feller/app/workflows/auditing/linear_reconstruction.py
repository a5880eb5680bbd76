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

ENDS, BETWEEN = 8, 48
"""Rows that are attacked: so many of those with the least bounds, and of those with the largest, and of the others."""
RELEASES = 1_000
"""Noise is drawn so often for each."""
AT_ONCE = 2**24
"""Numbers of rebuilt rows that are held at once."""
STEADY = 0.05
"""Noise in what an answer is divided by, over that, up to which the attack answers right on average."""


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """What an attack reaches of some rows, beside its bounds."""

    which: Int64[Tensor, " m"]
    """Rows, by their places in what was learned from; from the most exposed to the least."""
    error: Float64[Tensor, " m"]
    """Mean squared error per number; as the attack answers."""
    error_known: Float64[Tensor, " m"]
    """The same with answers cut to what numbers can be, which has a bias."""
    steady: Bool[Tensor, " m"]
    """Whether the noise is so small that answers are right on average, to a part in a thousand."""
    below: Bool[Tensor, " m"]
    """Whether an error of these lies below its bound."""
    mean: Float64[Tensor, "m d"]
    """Mean of what is answered, cut likewise."""


@dataclass(frozen=True, eq=False)
class LinearTold:
    """What noisy weights tell about the rows that they were found of."""

    minimum: ERMSolution
    eta2: Float64[Tensor, " n"]
    """Information per number of each row; without noise infinite."""
    labels: Float64[Tensor, " n"]
    """About the label of each."""
    spread: float
    """Mean squared error per number of answering the mean."""
    rebuilt: Rebuilt

    @property
    def numbers(self) -> dict[str, Any]:
        """Return what people hear of it."""
        rebuilt = self.rebuilt
        found = {
            "rebuilt_rows": len(rebuilt.which),
            "rebuilt_error": rebuilt.error.median().item(),
            "rebuilt_error_known": rebuilt.error_known.mean().item(),
            "spread": self.spread,
        }
        if self.labels.isinf().any():
            return found
        counts = {"rebuilt_steady": int(rebuilt.steady.sum()), "rebuilt_below": int(rebuilt.below.sum())}
        return {**found, **counts, "label_least": (1 / self.labels.max()).item()}


def rebuilt_rows(objective: OutputPerturbation, rows: Dataset, rho: float, draws: Rng) -> LinearTold:
    """Find what weights with noise tell about each row, and try to rebuild some from noise that is drawn anew.

    Args:
        objective: What the weights are the minimum of.
        rows: That they were found of.
        rho: That the noise cost; infinite without any.
        draws: Source of the noise of the attack, and of the rows that are attacked.
    """
    minimum = objective.solution(rows, rho)
    scale = objective.noise_std(len(rows), rho) if rho < torch.inf else 0.0
    numbers = torch.arange(minimum.x.shape[1], device=minimum.x.device) > 0  # all but the constant
    told = erm_leakage(minimum, scale or 1.0, numbers)
    eta2, labels = told.rows.eta2, told.labels.eta2
    which = _some(eta2, draws)
    if not scale:
        eta2, labels = torch.full_like(eta2, torch.inf), torch.full_like(labels, torch.inf)
    noise = scale * draws.stream("noise").normal((RELEASES if scale else 1, minimum.x.shape[1]), torch.float64)
    steady = _divided(minimum, which, scale) < STEADY
    rebuilt = _rebuilt(minimum, which, minimum.theta + noise.to(minimum.theta), eta2[which], steady)
    return LinearTold(minimum, eta2, labels, minimum.x[:, 1:].var(0).mean().item(), rebuilt)


def _some(eta2: Float64[Tensor, " n"], draws: Rng) -> Int64[Tensor, " m"]:
    """Choose rows from the most exposed to the least."""
    order = eta2.argsort(descending=True)
    if len(order) <= 2 * ENDS + BETWEEN:
        return order
    inner = (
        torch.randperm(len(order) - 2 * ENDS, generator=draws.stream("rows").shared_generator())[:BETWEEN].sort().values
        + ENDS
    )
    return torch.cat([order[:ENDS], order[inner.to(order.device)], order[-ENDS:]])


def _divided(minimum: ERMSolution, which: Tensor, scale: float) -> Float64[Tensor, " m"]:
    """Return the noise in the slope of the constant, by which the attack divides, over that slope."""
    x, whole = minimum.x[which], torch.linalg.inv(minimum.inverse_hessian)
    slopes = whole[0] - minimum.curvatures[which, None] * x[:, :1] * x
    return scale * slopes.norm(dim=1) / minimum.residuals[which].abs()


def _rebuilt(minimum: ERMSolution, which: Tensor, theta: Tensor, eta2: Tensor, steady: Tensor) -> Rebuilt:
    x = minimum.x[which, 1:]
    portion = max(1, AT_ONCE // (x.numel() + len(minimum.x)))
    errors, known, total = [], [], torch.zeros_like(x)
    for some in theta.split(portion):
        found, _ = reconstruct_rows(minimum.erm, minimum.x, minimum.y, some, which)
        answer = found[..., 1:].nan_to_num(0.5, 1.0, 0.0)
        cut = answer.clamp(0, 1)
        errors.append((answer - x).square().mean(2))
        known.append((cut - x).square().mean(2))
        total += cut.sum(0)
    error = torch.cat(errors)
    slack = NUM_STANDARD_ERRORS * error.std(0, correction=0) / len(error) ** 0.5
    below = steady & (error.mean(0) + slack < 1 / eta2)
    return Rebuilt(which, error.mean(0), torch.cat(known).mean(0), steady, below, total / len(theta))
