"""Interpolations between source and data."""

from feller.paths.affine import Affine, NoiseLevel
from feller.paths.alike import Alike
from feller.paths.answers import Answer, Cavity, Posterior
from feller.paths.any_order import AnyOrder
from feller.paths.autoregressive import Autoregressive
from feller.paths.betas import Beta, ConstantSpeed, Power
from feller.paths.binned import Binned
from feller.paths.brownian import Brownian
from feller.paths.choice import Choice
from feller.paths.codes import Codes
from feller.paths.correctors import BackAndForth, Corrector, Odds, Resample
from feller.paths.costs import Cost, Embedded, Levels, Table
from feller.paths.ends import Circle, DrawEnd, Ends, Finish, Interval, Lattice, MeanEnd, Point
from feller.paths.estimates import Estimates
from feller.paths.filled import Filled
from feller.paths.geodesic import Geodesic
from feller.paths.geometric import Geometric
from feller.paths.graphical import Graphical
from feller.paths.interleaved import Interleaved
from feller.paths.jump import Jump
from feller.paths.laws import GaussianLaw, Growth, Law, Overlap, RotationLaw, Survival, VonMisesLaw
from feller.paths.metric import Metric
from feller.paths.mixture import Mixture
from feller.paths.orders import Confidence, Entropy, Order
from feller.paths.path import Network, Path
from feller.paths.predictions import Angular, Data, Prediction, Score, Source, Velocity, convert
from feller.paths.premetric import Premetric
from feller.paths.product import Product
from feller.paths.rates import FewestJumps, KineticOptimal, LeastEnergy, Rates, Reversal, Tempered
from feller.paths.resynthesis import Resynthesis
from feller.paths.stepping import Ahead, Increment, Stepping
from feller.paths.tokens import TokenPath

__all__ = [
    "Affine",
    "Ahead",
    "Alike",
    "Angular",
    "Answer",
    "AnyOrder",
    "Autoregressive",
    "BackAndForth",
    "Beta",
    "Binned",
    "Brownian",
    "Cavity",
    "Choice",
    "Circle",
    "Codes",
    "Confidence",
    "ConstantSpeed",
    "Corrector",
    "Cost",
    "Data",
    "DrawEnd",
    "Embedded",
    "Ends",
    "Entropy",
    "Estimates",
    "FewestJumps",
    "Filled",
    "Finish",
    "GaussianLaw",
    "Geodesic",
    "Geometric",
    "Graphical",
    "Growth",
    "Increment",
    "Interleaved",
    "Interval",
    "Jump",
    "KineticOptimal",
    "Lattice",
    "Law",
    "LeastEnergy",
    "Levels",
    "MeanEnd",
    "Metric",
    "Mixture",
    "Network",
    "NoiseLevel",
    "Odds",
    "Order",
    "Overlap",
    "Path",
    "Point",
    "Posterior",
    "Power",
    "Prediction",
    "Premetric",
    "Product",
    "Rates",
    "Resample",
    "Resynthesis",
    "Reversal",
    "RotationLaw",
    "Score",
    "Source",
    "Stepping",
    "Survival",
    "Table",
    "Tempered",
    "TokenPath",
    "Velocity",
    "VonMisesLaw",
    "convert",
]
