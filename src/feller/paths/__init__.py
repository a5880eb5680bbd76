"""Interpolations between source and data."""

from feller.paths.affine import Affine, NoiseLevel
from feller.paths.geodesic import Geodesic
from feller.paths.mixture import Mixture
from feller.paths.path import Network, Path
from feller.paths.predictions import Data, Prediction, Score, Source, Velocity, convert
from feller.paths.premetric import Premetric
from feller.paths.product import Product

__all__ = [
    "Affine",
    "Data",
    "Geodesic",
    "Mixture",
    "Network",
    "NoiseLevel",
    "Path",
    "Prediction",
    "Premetric",
    "Product",
    "Score",
    "Source",
    "Velocity",
    "convert",
]
