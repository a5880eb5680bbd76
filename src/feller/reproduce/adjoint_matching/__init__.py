"""Adjoint Matching (Domingo-Enrich et al. 2024, arXiv 2409.08861): claims that a laptop can test."""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller.reproduce.adjoint_matching import mixture
from feller.reproduce.adjoint_matching.setting import Setting
from feller.reproduce.claims import Claim, tested, untestable

TESTS = (mixture.short, mixture.long)
"""(setting) -> claims."""

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
        setting = replace(setting, seeds=(0,), short=100, long=100, drawn=2000)
    return tested(TESTS, setting, only, BEYOND)
