"""Losses between prediction and target, one value per example.

Source: Lipman et al. 2024, arXiv 2412.06264, sections 4.5 and 7.5. All losses except `PseudoHuber` and `AbsoluteError`
are Bregman divergences, whose minimiser is the conditional mean (for tokens, the posterior).
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
    check_criterion,
    default_loss,
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
    "check_criterion",
    "default_loss",
]
