"""State costs of bridges: functions of state, time and population, and combinations of these functions."""

from feller.control.bridges.costs.congestion import CongestionCost, EntropyCost
from feller.control.bridges.costs.custom_cost import CustomCost
from feller.control.bridges.costs.near_data import DataDensityCost
from feller.control.bridges.costs.obstacles import (
    Box,
    Disc,
    Ellipse,
    Indicator,
    Neck,
    ObstacleShape,
    Quadric,
    SignedDistance,
    SoftObstacle,
)
from feller.control.bridges.costs.state_cost import PopulationDensity, Scaled, StateCost, Sum, Zero, check
from feller.control.bridges.costs.surface_cost import PointCloudSurface, SurfaceCost
from feller.control.bridges.costs.walls import ImageWalls

__all__ = [
    "Box",
    "CongestionCost",
    "CustomCost",
    "DataDensityCost",
    "Disc",
    "Ellipse",
    "EntropyCost",
    "ImageWalls",
    "Indicator",
    "Neck",
    "ObstacleShape",
    "PointCloudSurface",
    "PopulationDensity",
    "Quadric",
    "Scaled",
    "SignedDistance",
    "SoftObstacle",
    "StateCost",
    "Sum",
    "SurfaceCost",
    "Zero",
    "check",
]
