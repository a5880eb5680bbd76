"""Probability paths from a source distribution to the data, and the Markov processes that follow them."""

from feller.paths.affine import Affine, DiffusionCoefficient
from feller.paths.brownian import BrownianBridge
from feller.paths.discrete.correctors import Corrector, LogOddsCorrector, RenoiseCorrector, ReversibleCorrector
from feller.paths.discrete.metric_path import BetaSchedule, ConstantSpeedBeta, MetricPath, PowerBeta
from feller.paths.discrete.mixture import Mixture
from feller.paths.discrete.path_planning import LearnedOrder, PathPlanning
from feller.paths.discrete.rates import FewestJumps, KineticOptimalRates, LeastEnergy, Rates, Reversal, Tempered
from feller.paths.discrete.remasking import (
    CappedRemasking,
    ConfidenceRemasking,
    RemaskingCorrector,
    RemaskingProbability,
    RescaledRemasking,
)
from feller.paths.discrete.step_rules import ForwardIncrement, MidpointIncrement, TokenStepRule
from feller.paths.discrete.token_distances import DistanceTable, EmbeddingDistance, LevelDistance, TokenDistance
from feller.paths.discrete.token_distribution import LeaveOneOut, Parameterization, Posterior
from feller.paths.discrete.token_path import SoftmaxPath, TokenPath
from feller.paths.discrete.token_sampler import TokenSampler
from feller.paths.discrete.unmasking_count import ConfidenceThreshold, EntropyBound, ScheduledCount, UnmaskingCount
from feller.paths.discrete.unmasking_order import ConfidenceOrder, EntropyOrder, MarginOrder, UnmaskingOrder
from feller.paths.edits.alignment import Alignment, LeftAlignment, ShortestAlignment
from feller.paths.edits.edit_flow import EditFlow
from feller.paths.edits.edit_path import EditPath
from feller.paths.edits.insertion_masking import InsertionMasking
from feller.paths.geodesic import Geodesic
from feller.paths.jumps.binned import BinnedJumpPath
from feller.paths.jumps.conditional_path import ConcentrationSchedule, ConditionalPath
from feller.paths.jumps.endpoint_support import (
    CircularBins,
    EndpointSupport,
    FinalStep,
    IntervalBins,
    LatticeLevels,
    MeanEndpoint,
    PointEstimate,
    SampleEndpoint,
)
from feller.paths.jumps.gaussian import GaussianConditionalPath
from feller.paths.jumps.jump_path import JumpPath
from feller.paths.jumps.jump_step_rules import JumpStepRule, MaximalCoupling
from feller.paths.jumps.rotation import RotationConditionalPath
from feller.paths.jumps.von_mises import VonMisesConditionalPath
from feller.paths.path import Network, Path
from feller.paths.predictions import (
    DataPrediction,
    NoisePrediction,
    Prediction,
    ScorePrediction,
    VelocityPrediction,
    VPrediction,
    convert,
)
from feller.paths.premetric import Premetric
from feller.paths.product import ProductPath

__all__ = [
    "Affine",
    "Alignment",
    "BetaSchedule",
    "BinnedJumpPath",
    "BrownianBridge",
    "CappedRemasking",
    "CircularBins",
    "ConcentrationSchedule",
    "ConditionalPath",
    "ConfidenceOrder",
    "ConfidenceRemasking",
    "ConfidenceThreshold",
    "ConstantSpeedBeta",
    "Corrector",
    "DataPrediction",
    "DiffusionCoefficient",
    "DistanceTable",
    "EditFlow",
    "EditPath",
    "EmbeddingDistance",
    "EndpointSupport",
    "EntropyBound",
    "EntropyOrder",
    "FewestJumps",
    "FinalStep",
    "ForwardIncrement",
    "GaussianConditionalPath",
    "Geodesic",
    "InsertionMasking",
    "IntervalBins",
    "JumpPath",
    "JumpStepRule",
    "KineticOptimalRates",
    "LatticeLevels",
    "LearnedOrder",
    "LeastEnergy",
    "LeaveOneOut",
    "LeftAlignment",
    "LevelDistance",
    "LogOddsCorrector",
    "MarginOrder",
    "MaximalCoupling",
    "MeanEndpoint",
    "MetricPath",
    "MidpointIncrement",
    "Mixture",
    "Network",
    "NoisePrediction",
    "Parameterization",
    "Path",
    "PathPlanning",
    "PointEstimate",
    "Posterior",
    "PowerBeta",
    "Prediction",
    "Premetric",
    "ProductPath",
    "Rates",
    "RemaskingCorrector",
    "RemaskingProbability",
    "RenoiseCorrector",
    "RescaledRemasking",
    "Reversal",
    "ReversibleCorrector",
    "RotationConditionalPath",
    "SampleEndpoint",
    "ScheduledCount",
    "ScorePrediction",
    "ShortestAlignment",
    "SoftmaxPath",
    "Tempered",
    "TokenDistance",
    "TokenPath",
    "TokenSampler",
    "TokenStepRule",
    "UnmaskingCount",
    "UnmaskingOrder",
    "VPrediction",
    "VelocityPrediction",
    "VonMisesConditionalPath",
    "convert",
]
