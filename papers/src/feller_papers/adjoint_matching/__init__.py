"""Adjoint Matching (Domingo-Enrich et al. 2024, arXiv 2409.08861): claims that a laptop can test."""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.adjoint_matching import ablation, digits, ink, mixture, theory
from feller_papers.adjoint_matching.handwriting import TuningBudget
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import Claim, tested, untestable

TESTS = (
    *(theory.normal, theory.modes, theory.fixed_point, theory.hidden),
    *(mixture.short, mixture.long),
    *(digits.in_set, digits.near, digits.collapse, digits.equal, ink.thicker, ink.possible),
)
"""(setting) -> claims."""
BY_NAME = (ablation.in_set, ablation.more_ink)
"""Slow tests, run only if selected by name."""

BEYOND = (
    untestable(
        "Text to images at 512 x 512: ClipScore, HPSv2 and diversity of the base, DRaFT-1, and adjoint matching",
        "28.32, 17.89, 56.53; 30.95, 24.37, 27.39; 31.65, 24.49, 37.24",
        "needs GPUs, a text-to-image model and its judges",
    ),
)
"""Claims that need more than a laptop."""


def adjoint_matching(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims; `only` selects tests by part of their name."""
    setting = Setting(seeds=(0, 1, 2), short_rounds=300, long_rounds=900, data=data)
    if quick:
        few, cells = TuningBudget(10), 701
        setting = replace(
            setting,
            seeds=(0,),
            short_rounds=100,
            long_rounds=100,
            num_points=2000,
            fine_steps=500,
            grid_cells=cells,
            base_steps=1000,
        )
        setting = replace(
            setting,
            lean_budget=few,
            landing_budget=few,
            ink_budget=few,
            draft_rounds=40,
            early_stopping_rounds=(4, 8),
            max_rounds=10,
            num_weighted=2000,
        )
        setting = replace(setting, num_rollouts=100)
    return tested((*TESTS, *BY_NAME) if only else TESTS, setting, only, BEYOND)
