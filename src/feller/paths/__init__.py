"""Interpolations between source and data."""

from feller.paths.affine import Affine, NoiseLevel
from feller.paths.answers import Answer, Cavity, Posterior
from feller.paths.autoregressive import Autoregressive
from feller.paths.betas import Beta, ConstantSpeed, Power
from feller.paths.choice import Choice
from feller.paths.correctors import BackAndForth, Corrector, Odds, Resample
from feller.paths.costs import Cost, Embedded, Levels, Table
from feller.paths.geodesic import Geodesic
from feller.paths.geometric import Geometric
from feller.paths.metric import Metric
from feller.paths.mixture import Mixture
from feller.paths.orders import Confidence, Entropy, Order
from feller.paths.path import Network, Path
from feller.paths.predictions import Data, Prediction, Score, Source, Velocity, convert
from feller.paths.premetric import Premetric
from feller.paths.product import Product
from feller.paths.rates import FewestJumps, KineticOptimal, LeastEnergy, Rates, Tempered
from feller.paths.stepping import Ahead, Increment, Instant, Stepping
from feller.paths.tokens import TokenPath

__all__ = [
    "Affine",
    "Ahead",
    "Answer",
    "Autoregressive",
    "BackAndForth",
    "Beta",
    "Cavity",
    "Choice",
    "Confidence",
    "ConstantSpeed",
    "Corrector",
    "Cost",
    "Data",
    "Embedded",
    "Entropy",
    "FewestJumps",
    "Geodesic",
    "Geometric",
    "Increment",
    "Instant",
    "KineticOptimal",
    "LeastEnergy",
    "Levels",
    "Metric",
    "Mixture",
    "Network",
    "NoiseLevel",
    "Odds",
    "Order",
    "Path",
    "Posterior",
    "Power",
    "Prediction",
    "Premetric",
    "Product",
    "Rates",
    "Resample",
    "Score",
    "Source",
    "Stepping",
    "Table",
    "Tempered",
    "TokenPath",
    "Velocity",
    "convert",
]
