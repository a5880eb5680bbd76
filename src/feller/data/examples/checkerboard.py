"""Points on the filled squares of a board of 4 x 4."""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from feller.core.rng import Draws
from feller.data.loading.raw import FoundRows
from feller.data.modality import Dataset
from feller.data.points.points import points

BOARD_TRAIN, BOARD_TEST = 20_000, 5_000


def checkerboard(part: str) -> Dataset:
    """Return 20,000 points of `train` or 5,000 of `test`; both are scaled by the points of `train`."""
    draws = Draws(0).named("example:checkerboard")
    train = points(FoundRows(_draw_board(BOARD_TRAIN, draws, 0).numpy(), columns=("x", "y")))
    return train if part == "train" else Dataset(_draw_board(BOARD_TEST, draws, 1), {}, train.modality)


def inside(points: Float[Tensor, "n 2"]) -> Bool[Tensor, " n"]:
    """Tell which points lie on a filled square: in [-2, 2)^2, with an even sum of the coordinates rounded down."""
    cell = points.floor()
    return ((cell >= -2) & (cell < 2)).all(1) & (cell.sum(1) % 2 == 0)


def _draw_board(n: int, draws: Draws, step: int) -> Float64[Tensor, "n 2"]:
    """Draw a square for each point, then its place there."""
    draw = draws.at("points", step)
    square = draw.integers(8, (n,))
    column = square // 2
    row = 2 * (square % 2) + column % 2
    corner = torch.stack([column, row], dim=1).double() - 2
    return corner + draw.uniform((n, 2), dtype=torch.float64)
