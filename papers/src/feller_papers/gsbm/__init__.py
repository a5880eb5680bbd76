"""Generalized Schrödinger bridge matching (Liu et al. 2024, arXiv 2310.02233): claims that a laptop can test."""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.claims import Claim, tested, untestable
from feller_papers.gsbm import cells, crowds, opinion, pictures, spider, surface, theory
from feller_papers.gsbm.setting import Budget, Setting

TESTS = (
    theory.splines,
    theory.path_integral,
    theory.gaussian_bridge,
    crowds.ends_are_met,
    crowds.less_than_plain,
    crowds.both_losses,
    spider.corridor,
    surface.cost_of_places,
    surface.paths_of_pairs,
    surface.crossing,
    opinion.thousand,
    opinion.plane,
    pictures.latent,
    cells.left_out,
)
"""(setting) -> claims."""

BEYOND = (
    untestable(
        "AFHQ at 64 x 64: cats to dogs and back under a cost in latent space, by FID",
        "12.39, DSBM 14.16",
        "needs GPUs, the pictures and a variational autoencoder of them",
    ),
)
"""Claims that need more than a laptop."""


def gsbm(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims; `only` selects tests by part of their name."""
    setting = Setting(seeds=(0, 1, 2), data=data)
    if quick:
        setting = replace(
            setting,
            seeds=(0,),
            crowd=Budget(3, pairs=512, steps=800),
            mountain=Budget(1, pairs=64, control_steps=100, steps=300),
            opinions=Budget(2, pairs=256, control_steps=40, steps=150),
            digits=Budget(1, pairs=128, control_steps=60, steps=100),
            line=Budget(3, pairs=1024, control_steps=100, steps=300),
            cells=Budget(1, pairs=256, control_steps=60, steps=300),
            autoencoder_steps=500,
        )
    return tested(TESTS, setting, only, BEYOND)
