"""Which source draw goes with which datum."""

from feller.couplings.aligned import Aligned
from feller.couplings.cost import Cost, GeodesicCost, SquaredDistance
from feller.couplings.coupling import Coupling, Independent
from feller.couplings.entropic import Entropic
from feller.couplings.labels import LabelAware, WithinClasses
from feller.couplings.ranks import AcrossRanks
from feller.couplings.sinkhorn import sinkhorn
from feller.couplings.transport import MinibatchTransport, assign, cheapest
from feller.couplings.unbalanced import Unbalanced

__all__ = [
    "AcrossRanks",
    "Aligned",
    "Cost",
    "Coupling",
    "Entropic",
    "GeodesicCost",
    "Independent",
    "LabelAware",
    "MinibatchTransport",
    "SquaredDistance",
    "Unbalanced",
    "WithinClasses",
    "assign",
    "cheapest",
    "sinkhorn",
]
