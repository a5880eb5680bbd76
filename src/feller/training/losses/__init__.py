"""How far a prediction is from its target: one number per example; only the trainer averages.

Source: Lipman et al. 2024, arXiv 2412.06264, sections 4.5 and 7.5; every loss here but the pseudo-Huber and the
absolute is a Bregman divergence, whose minimiser is the conditional mean (the posterior, for tokens).
"""

from feller.training.losses.generalised_kl import GeneralisedKL
from feller.training.losses.losses import (
    Absolute,
    CrossEntropy,
    InfinitesimalKL,
    ItakuraSaito,
    Loss,
    PerLeaf,
    PseudoHuber,
    RatesAndVelocity,
    Squared,
    Weighted,
    WhereMasked,
)

__all__ = [
    "Absolute",
    "CrossEntropy",
    "GeneralisedKL",
    "InfinitesimalKL",
    "ItakuraSaito",
    "Loss",
    "PerLeaf",
    "PseudoHuber",
    "RatesAndVelocity",
    "Squared",
    "Weighted",
    "WhereMasked",
]
