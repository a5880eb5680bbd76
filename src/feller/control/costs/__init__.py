"""What being somewhere costs: functions of state, time and crowd, and primitives that combine."""

from feller.control.costs.cost import Cost, Population, Scaled, Sum, Zero, check
from feller.control.costs.crowd import Congestion, Entropy
from feller.control.costs.density import NearData
from feller.control.costs.function import Function
from feller.control.costs.picture import Picture
from feller.control.costs.shapes import Box, Disc, Ellipse, Indicator, Neck, Quadric, Shape, SignedDistance, Smooth
from feller.control.costs.surface import NearSurface, Surface

__all__ = [
    "Box",
    "Congestion",
    "Cost",
    "Disc",
    "Ellipse",
    "Entropy",
    "Function",
    "Indicator",
    "NearData",
    "NearSurface",
    "Neck",
    "Picture",
    "Population",
    "Quadric",
    "Scaled",
    "Shape",
    "SignedDistance",
    "Smooth",
    "Sum",
    "Surface",
    "Zero",
    "check",
]
