"""Laws of one part of a state given the end of its path, with all that flows and jumps need."""

from feller.paths.laws.concentration import Growth
from feller.paths.laws.gaussian import GaussianLaw
from feller.paths.laws.law import Law
from feller.paths.laws.rotation import RotationLaw
from feller.paths.laws.survival import Coin, Explicit, Overlap, Survival
from feller.paths.laws.von_mises import VonMisesLaw

__all__ = [
    "Coin",
    "Explicit",
    "GaussianLaw",
    "Growth",
    "Law",
    "Overlap",
    "RotationLaw",
    "Survival",
    "VonMisesLaw",
]
