"""What being somewhere costs: functions of state, time and crowd, and primitives that combine."""

from feller.control.bridges.costs.congestion import Congestion, Entropy
from feller.control.bridges.costs.custom_cost import Function
from feller.control.bridges.costs.near_data import NearData
from feller.control.bridges.costs.obstacles import (
    Box,
    Disc,
    Ellipse,
    Indicator,
    Neck,
    Quadric,
    Shape,
    SignedDistance,
    Smooth,
)
from feller.control.bridges.costs.state_cost import Cost, Population, Scaled, Sum, Zero, check
from feller.control.bridges.costs.surface_cost import NearSurface, Surface
from feller.control.bridges.costs.walls import Picture

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
