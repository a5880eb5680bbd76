"""Flow Matching with General Discrete Paths (Shaul et al. 2024, arXiv 2412.03487): claims that a laptop can test."""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.claims import Claim, tested, untestable
from feller_papers.kinetic_optimal import (
    bounds,
    characters,
    digits,
    energies,
    language,
    mnist,
    promises,
    steps,
    velocities,
)
from feller_papers.kinetic_optimal.setting import Setting

TESTS = (
    velocities.forward_equation,
    velocities.least_energy,
    energies.great_circle,
    steps.few_steps,
    steps.correctors,
    bounds.toy,
    digits.quality,
    digits.can_fail,
    digits.step_rule,
    promises.metric_beats_mask,
    promises.schedule_helps,
    promises.correctors_help,
    promises.steps_help,
    mnist.mnist,
    characters.mask_bound,
    characters.schedules_agree,
    characters.sources,
    language.language_models,
)
"""(setting) -> claims."""

BEYOND = (
    untestable("CIFAR-10, metric path on pixels: FID per number of calls", "below the mask path", "needs GPUs"),
    untestable("ImageNet 256 x 256 in codes of an autoencoder: FID", "below the mask path", "needs many GPUs"),
    untestable("FineWeb-Edu: perplexity of kinetic-optimal mixtures", "below that of masks", "needs many GPUs"),
    untestable("MP-20 crystals as tokens: stability rate", "above that of earlier models", "needs a GPU for days"),
)
"""Claims that need more than a laptop."""


def kinetic_optimal(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims; `only` selects tests by part of their name."""
    setting = Setting(seeds=(0, 1, 2), digits=800, text=1000, windows=2343, data=data, minutes=15.0)
    if quick:
        setting = replace(
            setting,
            seeds=(0,),
            digits=400,
            text=60,
            windows=64,
            minutes=None,
            calls=(4, 8, 16, 32),
            resamplings=(4.0,),
        )
    return tested(TESTS, setting, only, BEYOND)
