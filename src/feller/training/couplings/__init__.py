"""Couplings, which choose the source sample that each datum is paired with in training."""

from feller.training.couplings.class_conditional import ClassConditional, ConditionalOT, ignores_conditions
from feller.training.couplings.coupling import Coupling, IndependentCoupling
from feller.training.couplings.equivariant_ot import EquivariantOT
from feller.training.couplings.ground_cost import GeodesicCost, GroundCost, SquaredDistance
from feller.training.couplings.minibatch_ot import (
    GlobalBatchCoupling,
    MinibatchOT,
    linear_assignment,
    optimal_permutation,
)
from feller.training.couplings.sinkhorn_ot import SinkhornCoupling, UnbalancedOT, sinkhorn

__all__ = [
    "ClassConditional",
    "ConditionalOT",
    "Coupling",
    "EquivariantOT",
    "GeodesicCost",
    "GlobalBatchCoupling",
    "GroundCost",
    "IndependentCoupling",
    "MinibatchOT",
    "SinkhornCoupling",
    "SquaredDistance",
    "UnbalancedOT",
    "ignores_conditions",
    "linear_assignment",
    "optimal_permutation",
    "sinkhorn",
]
