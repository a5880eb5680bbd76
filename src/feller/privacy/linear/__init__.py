"""Linear models that are told with noise, and what that tells about each row."""

from feller.privacy.linear.attack import reconstructed
from feller.privacy.linear.families import Family, Logistic, Squares
from feller.privacy.linear.leaking import Leakages, leakage
from feller.privacy.linear.releasing import Released, release
from feller.privacy.linear.ridge import Minimum, Ridge, minimum_of, with_constant, within_length

__all__ = [
    "Family",
    "Leakages",
    "Logistic",
    "Minimum",
    "Released",
    "Ridge",
    "Squares",
    "leakage",
    "minimum_of",
    "reconstructed",
    "release",
    "with_constant",
    "within_length",
]
