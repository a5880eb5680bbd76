"""Budgets of the claims about reward fine-tuning."""

import pathlib
from dataclasses import dataclass, field

from feller.control.fine_tuning.adjoint_matching import LandingAdjoint
from feller_papers.adjoint_matching.handwriting import TuningBudget


@dataclass(frozen=True)
class Setting:
    """Budgets of all claims."""

    seeds: tuple[int, ...]
    short_rounds: int
    """Rounds on the mixture, with 256 roll-outs."""
    long_rounds: int
    """Rounds of the longer run on the mixture, with 512 roll-outs."""
    fine_steps: int = 2000
    """Steps of numerical solutions."""
    grid_cells: int = 1401
    """Cells of a one-dimensional grid."""
    num_points: int = 10_000
    """Samples of the mixture."""
    base_steps: int = 10_000
    """Training steps of the base model of digits."""
    lean_budget: TuningBudget = field(default_factory=lambda: TuningBudget(160, lr=1e-3))
    """Tuning to classes of digits, as in the paper."""
    landing_budget: TuningBudget = field(
        default_factory=lambda: TuningBudget(120, steps=40, adjoint=LandingAdjoint(), lr=4e-4, average=0.985, share=0.5)
    )
    """Tuning to classes with the landing adjoint."""
    ink_budget: TuningBudget = field(default_factory=lambda: TuningBudget(240, 256, lr=1e-3, average=0.99, replay=4))
    """Tuning to more ink."""
    draft_rounds: int = 150
    """Rounds of DRaFT-1 without early stopping."""
    early_stopping_rounds: tuple[int, ...] = (10, 14, 18, 24)
    """Candidate rounds of early-stopped DRaFT."""
    max_rounds: int = 1000
    """Maximum rounds in the ablation."""
    num_samples: int = 1500
    """Digits per set of samples; the metrics depend on this size."""
    num_weighted: int = 20_000
    """Base samples for importance weights."""
    num_rollouts: int = 500
    """Roll-outs whose states are continued twice."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, which are not in the package."""
