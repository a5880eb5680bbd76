"""Private tables by graphical models: noisy counts of few columns, and the most random rows that agree with them."""

from feller.marginals.aim import aim
from feller.marginals.curator import Curator, Release
from feller.marginals.draw import Spread, apart, evenly
from feller.marginals.elimination import Clique, Elimination, eliminate
from feller.marginals.estimate import Measurement, estimate
from feller.marginals.independent import independent
from feller.marginals.model import Admitted, MarginalModel
from feller.marginals.mst import mst

__all__ = [
    "Admitted",
    "Clique",
    "Curator",
    "Elimination",
    "MarginalModel",
    "Measurement",
    "Release",
    "Spread",
    "aim",
    "apart",
    "eliminate",
    "estimate",
    "evenly",
    "independent",
    "mst",
]
