"""Private tables by graphical models: noisy counts of few columns, and the most random rows that agree with them."""

from feller.privacy.marginals.aim import aim
from feller.privacy.marginals.curator import Curator, Release
from feller.privacy.marginals.elimination import Clique, Elimination, eliminate
from feller.privacy.marginals.estimate import Measurement, estimate
from feller.privacy.marginals.marginal_model import Admitted, MarginalModel
from feller.privacy.marginals.mst import independent, mst
from feller.privacy.marginals.row_sampling import Spread, apart, evenly

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
