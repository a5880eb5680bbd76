"""How a row of numbers stands for a point of a space."""

import abc
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.spaces.rotations import from_quaternion, to_quaternion


class Chart(abc.ABC):
    """Turns rows [n, d] into points [n, ...] and back, both in float64."""

    @abc.abstractmethod
    def read(self, values: Float[Tensor, "n d"]) -> Float[Tensor, " n *point"]:
        """Return the points that rows stand for."""

    @abc.abstractmethod
    def write(self, points: Float[Tensor, " n *point"]) -> Float[Tensor, "n d"]:
        """Return rows that stand for points."""

    @property
    def log_scale(self) -> float:
        """Log volume of the user's space per volume of ours."""
        return 0.0


@dataclass(frozen=True)
class Entries(Chart):
    """The coordinates of the point, row by row."""

    shape: tuple[int, ...]

    def read(self, values: Float[Tensor, "n d"]) -> Float[Tensor, " n *point"]:
        """Give them the shape of a point."""
        return values.reshape(len(values), *self.shape)

    def write(self, points: Float[Tensor, " n *point"]) -> Float[Tensor, "n d"]:
        """Put them into one row."""
        return points.flatten(1)


@dataclass(frozen=True)
class Quaternions(Chart):
    """Rotations as unit quaternions; q and -q are one rotation, written with the real part that is not negative."""

    places: tuple[int, int, int, int] = (0, 1, 2, 3)
    """Which columns hold w, x, y and z."""

    def read(self, values: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
        """Return matrices."""
        values = values[:, list(self.places)]
        return from_quaternion(values / values.norm(dim=1, keepdim=True))

    def write(self, points: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 4"]:
        """Return unit quaternions."""
        identity = torch.eye(3, dtype=points.dtype, device=points.device)
        values = torch.empty(len(points), 4, dtype=points.dtype, device=points.device)
        values[:, list(self.places)] = to_quaternion(points - identity)
        return values


@dataclass(frozen=True)
class Triangle(Chart):
    """Symmetric matrices by their lower triangle, row by row: 11, 21, 22, 31, ..."""

    n: int
    """Rows of a matrix."""

    def read(self, values: Float[Tensor, "n d"]) -> Float[Tensor, "n k k"]:
        """Return whole matrices."""
        row, column = torch.tril_indices(self.n, self.n)
        points = values.new_empty(len(values), self.n, self.n)
        points[:, row, column] = points[:, column, row] = values
        return points

    def write(self, points: Float[Tensor, "n k k"]) -> Float[Tensor, "n d"]:
        """Return the lower triangles."""
        row, column = torch.tril_indices(self.n, self.n)
        return points[:, row, column]


@dataclass(frozen=True)
class Placed(Chart):
    """Points of a surface that was moved and scaled to a size about one."""

    centre: tuple[float, float, float]
    scale: float
    """Length of the user's space that is one of ours."""

    def read(self, values: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Subtract the centre and divide by the scale."""
        return (values - values.new_tensor(self.centre)) / self.scale

    def write(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Multiply by the scale and add the centre."""
        return points * self.scale + points.new_tensor(self.centre)

    @property
    def log_scale(self) -> float:
        """Log of the area."""
        return 2 * math.log(self.scale)
