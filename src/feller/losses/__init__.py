"""How far a prediction is from its target: one number per example; only the trainer averages.

Source: Lipman et al. 2024, arXiv 2412.06264, sections 4.5 and 7.5; every loss here but the pseudo-Huber and the
absolute is a Bregman divergence, whose minimiser is the conditional mean (the posterior, for tokens).
"""

from feller.losses.generalised_kl import GeneralisedKL
from feller.losses.loss import Loss, PerLeaf, Weighted
from feller.losses.rates import InfinitesimalKL, ItakuraSaito, RatesAndVelocity
from feller.losses.regression import Absolute, PseudoHuber, Squared
from feller.losses.tokens import CrossEntropy, WhereMasked

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
