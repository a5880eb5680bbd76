"""Differentially private tables by graphical models: noisy marginals and the maximum-entropy model that fits them."""

from feller.privacy.marginals.aim import aim
from feller.privacy.marginals.curator import Curator, MarginalRelease
from feller.privacy.marginals.elimination import Clique, Elimination, eliminate
from feller.privacy.marginals.estimate import MarginalMeasurement, estimate
from feller.privacy.marginals.marginal_model import AllowedCombinations, MarginalModel
from feller.privacy.marginals.mst import independent, mst
from feller.privacy.marginals.row_sampling import Stratification, stratified, unstratified

__all__ = [
    "AllowedCombinations",
    "Clique",
    "Curator",
    "Elimination",
    "MarginalMeasurement",
    "MarginalModel",
    "MarginalRelease",
    "Stratification",
    "aim",
    "eliminate",
    "estimate",
    "independent",
    "mst",
    "stratified",
    "unstratified",
]
