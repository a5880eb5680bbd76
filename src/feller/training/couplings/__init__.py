"""Which source draw goes with which datum."""

from feller.training.couplings.class_conditional import LabelAware, WithinClasses, ignores_conditions
from feller.training.couplings.coupling import Coupling, Independent
from feller.training.couplings.equivariant_ot import Aligned
from feller.training.couplings.ground_cost import Cost, GeodesicCost, SquaredDistance
from feller.training.couplings.minibatch_ot import AcrossRanks, MinibatchOT, assign, cheapest
from feller.training.couplings.sinkhorn_ot import Entropic, Unbalanced, sinkhorn

__all__ = [
    "AcrossRanks",
    "Aligned",
    "Cost",
    "Coupling",
    "Entropic",
    "GeodesicCost",
    "Independent",
    "LabelAware",
    "MinibatchOT",
    "SquaredDistance",
    "Unbalanced",
    "WithinClasses",
    "assign",
    "cheapest",
    "ignores_conditions",
    "sinkhorn",
]
