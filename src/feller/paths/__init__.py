"""Interpolations between source and data."""

from feller.paths.affine import Affine, NoiseLevel
from feller.paths.brownian import Brownian
from feller.paths.discrete.correctors import BackAndForth, Corrector, Odds, Resample
from feller.paths.discrete.metric_path import Beta, ConstantSpeed, Metric, Power
from feller.paths.discrete.mixture import Mixture
from feller.paths.discrete.rates import FewestJumps, KineticOptimal, LeastEnergy, Rates, Reversal, Tempered
from feller.paths.discrete.step_rules import Ahead, Increment, Stepping
from feller.paths.discrete.token_distances import Cost, Embedded, Levels, Table
from feller.paths.discrete.token_distribution import Answer, Cavity, Posterior
from feller.paths.discrete.token_path import Geometric, TokenPath
from feller.paths.discrete.token_sampler import Choice
from feller.paths.discrete.unmasking_order import Confidence, Entropy, Order
from feller.paths.geodesic import Geodesic
from feller.paths.jumps.binned import Binned
from feller.paths.jumps.conditional_path import Growth, Law
from feller.paths.jumps.endpoint_support import Circle, DrawEnd, Ends, Finish, Interval, Lattice, MeanEnd, Point
from feller.paths.jumps.gaussian import GaussianLaw
from feller.paths.jumps.jump_path import Jump
from feller.paths.jumps.jump_step_rules import Overlap, Survival
from feller.paths.jumps.rotation import RotationLaw
from feller.paths.jumps.von_mises import VonMisesLaw
from feller.paths.path import Network, Path
from feller.paths.predictions import Angular, Data, Prediction, Score, Source, Velocity, convert
from feller.paths.premetric import Premetric
from feller.paths.product import Product

__all__ = [
    "Affine",
    "Ahead",
    "Angular",
    "Answer",
    "BackAndForth",
    "Beta",
    "Binned",
    "Brownian",
    "Cavity",
    "Choice",
    "Circle",
    "Confidence",
    "ConstantSpeed",
    "Corrector",
    "Cost",
    "Data",
    "DrawEnd",
    "Embedded",
    "Ends",
    "Entropy",
    "FewestJumps",
    "Finish",
    "GaussianLaw",
    "Geodesic",
    "Geometric",
    "Growth",
    "Increment",
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
