"""Adjoint Matching (Domingo-Enrich et al. 2024, arXiv 2409.08861): claims that a laptop can test."""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.adjoint_matching import ablation, digits, ink, mixture, theory
from feller_papers.adjoint_matching.handwriting import Effort
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import Claim, tested, untestable

TESTS = (
    *(theory.normal, theory.modes, theory.fixed_point, theory.hidden),
    *(mixture.short, mixture.long),
    *(digits.in_set, digits.near, digits.collapse, digits.equal, ink.thicker, ink.possible),
)
"""(setting) -> claims."""
BY_NAME = (ablation.in_set, ablation.more_ink)
"""The same, run only where they are asked for: they take longer than all others."""

BEYOND = (
    untestable(
        "Text to images at 512 x 512: ClipScore, HPSv2 and diversity of the base, DRaFT-1, and adjoint matching",
        "28.32, 17.89, 56.53; 30.95, 24.37, 27.39; 31.65, 24.49, 37.24",
        "needs GPUs, a text-to-image model and its judges",
    ),
)
"""What no laptop can test."""


def adjoint_matching(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Test the paper's claims one after the other, or only those of tests with `only` in their name."""
    setting = Setting(seeds=(0, 1, 2), short=300, long=900, data=data)
    if quick:
        few, cells = Effort(10), 701
        setting = replace(setting, seeds=(0,), short=100, long=100, drawn=2000, fine=500, cells=cells, base=1000)
        setting = replace(setting, lean=few, near=few, inked=few, collapsing=40, early=(4, 8), most=10, weighed=2000)
        setting = replace(setting, forked=100)
    return tested((*TESTS, *BY_NAME) if only else TESTS, setting, only, BEYOND)
