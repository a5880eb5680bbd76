"""Bounds of the reconstruction error of a row, and attacks.

Source of the claims: Guo, Karrer, Chaudhuri and van der Maaten 2022, "Bounding training data reconstruction in
private (deep) learning", arXiv 2201.12383.
"""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.claims import Claim, tested, untestable
from feller_papers.reconstruction_bounds import account, attacked, inverted, perturbed, stepwise, trials
from feller_papers.reconstruction_bounds.setting import Setting

TESTS = (
    perturbed.bounds,
    attacked.attack,
    stepwise.steps,
    stepwise.factor,
    inverted.gradients,
    trials.never,
    account.cost,
    account.nearness,
)
"""(setting) -> claims."""

BEYOND = (
    untestable(
        "CIFAR-10, DP-SGD of a network of six convolutions, batches of 200, 150 epochs",
        "histograms of bounds, and pictures with the highest and the lowest",
        "needs CIFAR-10 and a GPU",
    ),
)
"""Claims that need more than a laptop."""


def reconstruction_bounds(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims; `only` selects tests by part of their name."""
    setting = Setting(data=data)
    if quick:
        setting = replace(setting, draws=500, trials=200, large=None, rows=16)
    return tested(TESTS, setting, only, BEYOND)
