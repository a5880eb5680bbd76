"""Gradient-free minimisation by an evolution strategy with Gaussian-preserving proposals."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.optimize.minimize import BatchFunction, Minimizer, MinimizerState, initial_state
from feller.core.errors import UsageError
from feller.core.rng import Rng

MIN_STEP, MAX_STEP = 1e-6, 1.0
"""Smallest and largest step size s."""


@dataclass(frozen=True)
class Evolution(Minimizer):
    """Evolution strategy: proposals x' = sqrt(1 - s^2) x + s z around the best point, which preserve N(0, I).

    Points thus stay typical of N(0, I) even where the objective is piecewise constant. A proposal succeeds if its value
    is not above that of the best point. The 1/5 success rule adapts s: a success rate above 1/5 raises s, a lower rate
    reduces it. Because a tie counts as a success, s grows up to 1 on a plateau, and proposals become independent
    samples. Sources: Rechenberg 1973, "Evolutionsstrategie", for the rule; Cotter et al. 2013, "MCMC methods for
    functions", arXiv 1202.0709, for the proposals.
    """

    needs_gradients: ClassVar[bool] = False

    steps: int = 100  # pyrefly: ignore
    population: int = 16
    """Number of proposals per step and example."""
    step_size: float = 0.3
    """Step size s of the first step."""
    rng: Rng = field(default_factory=lambda: Rng(0))
    """Random streams from which proposals are sampled."""

    def __post_init__(self) -> None:
        if min(self.steps, self.population) < 1 or not MIN_STEP <= self.step_size <= MAX_STEP:
            raise UsageError(f"at least 1 step and 1 proposal, and a step size in [{MIN_STEP:g}, {MAX_STEP:g}]", self)

    def run(self, function: BatchFunction, x: Float[Tensor, "b d"]) -> Iterator[MinimizerState]:
        best = initial_state(function, x)
        yield best
        step_sizes = torch.full_like(best.value, self.step_size)
        for step in range(self.steps):
            rows = best.active.nonzero()[:, 0]
            if not len(rows):
                return
            shape = (len(x), self.population, x.shape[1])
            z = self.rng.stream("proposals", step).normal(shape, x.dtype, x.device)[rows]
            s = step_sizes[rows, None, None]
            proposals = (1 - s.square()).sqrt() * best.x[rows, None] + s * z
            value, _ = function(proposals.flatten(0, 1), rows.repeat_interleave(self.population))
            value = torch.where(torch.isfinite(value), value, torch.inf).view(-1, self.population)
            best.nfe[rows] += self.population
            best_value, best_index = value.min(1)
            success_rate = (value <= best.value[rows, None]).to(value.dtype).mean(1)
            step_sizes[rows] = (step_sizes[rows] * (success_rate - 0.2).exp()).clamp(MIN_STEP, MAX_STEP)
            is_better = torch.isfinite(best_value) & (best_value <= best.value[rows])
            best.value[rows[is_better]] = best_value[is_better]
            best.x[rows[is_better]] = proposals[is_better, best_index[is_better]]
            yield best
