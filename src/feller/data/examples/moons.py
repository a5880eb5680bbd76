"""Two half circles that interlock."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.rng import Draws
from feller.data.loading.raw import FoundRows
from feller.data.modality import Dataset
from feller.data.points.points import points

MOONS_TRAIN, MOONS_TEST = 20_000, 5_000
NOISE = 0.05
GRID = 2.0**-16
"""Distance of the coordinates that there are: sines and normal numbers have other last bits on other processors."""


def moons(part: str) -> Dataset:
    """Return 20,000 points of `train` or 5,000 of `test`; both are scaled by the points of `train`."""
    draws = Draws(0).named("example:moons")
    train = points(FoundRows(_draw_moons(MOONS_TRAIN, draws, 0).numpy(), columns=("x", "y")))
    return train if part == "train" else Dataset(_draw_moons(MOONS_TEST, draws, 1), {}, train.modality)


def _draw_moons(n: int, draws: Draws, step: int) -> Float64[Tensor, "n 2"]:
    """Draw points and round them to the grid; none is so near to the middle of two of its lines that bits decide."""
    return (drawn(n, draws, step) / GRID).round() * GRID


def drawn(n: int, draws: Draws, step: int) -> Float64[Tensor, "n 2"]:
    """Draw points evenly along both arcs, then move them by the noise; the last bits depend on the processor."""
    draw = draws.at("points", step)
    lower = draw.integers(2, (n,)).double()
    angle = math.pi * (draw.uniform((n,), dtype=torch.float64) + lower)  # the lower arc is the other half
    centre = torch.stack([lower, lower / 2], dim=1)
    arc = centre + torch.stack([angle.cos(), angle.sin()], dim=1)
    return arc + NOISE * draw.normal((n, 2), dtype=torch.float64)
