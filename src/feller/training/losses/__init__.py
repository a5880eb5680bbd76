"""How far a prediction is from its target: one number per example; only the trainer averages.

Source: Lipman et al. 2024, arXiv 2412.06264, sections 4.5 and 7.5; every loss here but the pseudo-Huber and the
absolute is a Bregman divergence, whose minimiser is the conditional mean (the posterior, for tokens).
"""

from feller.training.losses.generalized_kl import GeneralizedKL
from feller.training.losses.loss import (
    AbsoluteError,
    CrossEntropy,
    InfinitesimalKL,
    ItakuraSaito,
    Loss,
    MaskedTokenLoss,
    PerLeafLoss,
    PseudoHuber,
    RateAndVelocityLoss,
    SquaredError,
    TimeWeighted,
)

__all__ = [
    "AbsoluteError",
    "CrossEntropy",
    "GeneralizedKL",
    "InfinitesimalKL",
    "ItakuraSaito",
    "Loss",
    "MaskedTokenLoss",
    "PerLeafLoss",
    "PseudoHuber",
    "RateAndVelocityLoss",
    "SquaredError",
    "TimeWeighted",
]
