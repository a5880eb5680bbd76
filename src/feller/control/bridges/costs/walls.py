"""Obstacles read from an image, in which dark pixels are walls."""

import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor
from torch.autograd.function import once_differentiable

from feller.control.bridges.costs.obstacles import ObstacleShape
from feller.core.errors import InputError, UsageError
from feller.data.images.image_loading import FORMATS

Extent = tuple[float, float, float, float]
"""Image extent in the plane as (x of the left edge, x of the right edge, y of the lower edge, y of the upper edge)."""
DARK = 0.5
"""Grey level below which a pixel is a wall; 0 is black, 1 is white."""


def read_grey(file: pathlib.Path) -> Float[np.ndarray, "h w"]:
    """Read an image as grey levels from 0 (black) to 1 (white); transparent pixels are white.

    Raises:
        InputError: If the file does not exist or is not a readable image.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            colours = image.convert("RGBA")
    except FileNotFoundError as error:
        raise InputError("an image", "no such file", file=file) from error
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"not a readable image: {error}", file=file) from error
    white = Image.new("RGBA", colours.size, "white")
    return np.asarray(Image.alpha_composite(white, colours).convert("L"), dtype=np.float64) / 255


@dataclass(frozen=True, eq=False)
class ImageWalls(ObstacleShape):
    """Obstacle that consists of the dark pixels of an image and the region outside its frame."""

    distances: Float[Tensor, "rows columns"]
    """Signed distance at the centres, edges and corners of all pixels and of a border of wall pixels; the first row is
    the lowest."""
    extent: Extent

    @staticmethod
    def from_image(grey: Float[np.ndarray, "h w"], frame: Extent | None = None) -> "ImageWalls":
        """Compute the signed distance field of an image.

        Args:
            grey: Grey levels from 0 (black) to 1 (white), rows from top to bottom.
            frame: Image extent; None for one unit per pixel, with the lower left corner at (0, 0).

        Raises:
            InputError: If every pixel is a wall, or no pixel is a wall.
            UsageError: If the frame has no area.
        """
        h, w = grey.shape
        left, right, low, high = frame = frame or (0.0, float(w), 0.0, float(h))
        if not (right > left and high > low):
            raise UsageError("a frame x_low < x_high, y_low < y_high", frame)
        is_wall = grey[::-1] < DARK
        if not is_wall.any():
            raise InputError(
                "the image has no walls: no pixel is darker than middle grey", remedy="Draw the walls in black"
            )
        if is_wall.all():
            raise InputError(
                "the image is all wall: no pixel is lighter than middle grey", remedy="Leave free space white"
            )
        half_pixel = ((high - low) / (2 * h), (right - left) / (2 * w))
        is_wall = np.pad(is_wall, 1, constant_values=True)
        return ImageWalls(
            torch.from_numpy(_distance(is_wall, half_pixel) - _distance(~is_wall, half_pixel)).float(), frame
        )

    def level(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Return the distance to the nearest wall, interpolated between grid points.

        Inside a wall, it is the negative distance to free space.
        """
        if x.shape[-1] != 2:
            raise UsageError("image walls need states with 2 coordinates", found=x.shape[-1])
        return _Interpolated.apply(x, self.distances.to(x), self.extent)


def _distance(pixels: Bool[np.ndarray, "h w"], half_pixel: tuple[float, float]) -> Float[np.ndarray, "rows columns"]:
    """Return the distance of centres, edges and corners of all pixels to a union of closed pixels.

    The nearest point of the union is itself a node, so distances are exact.
    """
    h, w = pixels.shape
    nodes = np.zeros((2 * h + 1, 2 * w + 1), dtype=bool)
    nodes[1::2, 1::2] = pixels
    nodes = ndimage.binary_dilation(nodes, np.ones((3, 3)))
    return np.asarray(ndimage.distance_transform_edt(~nodes, sampling=half_pixel))


class _Interpolated(torch.autograd.Function):
    """Bilinear interpolation of a grid of distances to walls at points x, with its gradient.

    Beyond the border the level decreases by the distance to it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, distances: Tensor, frame: Extent) -> Tensor:
        (rows, columns), (left, right, low, high) = distances.shape, frame
        # Two nodes per pixel, and one border pixel per side.
        cell_width, cell_height = (right - left) / (columns - 5), (high - low) / (rows - 5)
        u, u_beyond, u_inside = _grid_position(x[..., 0], left - 2 * cell_width, cell_width, columns)
        v, v_beyond, v_inside = _grid_position(x[..., 1], low - 2 * cell_height, cell_height, rows)
        column, row = u.long().clamp(max=columns - 2), v.long().clamp(max=rows - 2)
        a, b = u - column, v - row
        index = row * columns + column
        flat = distances.flatten()
        lower_left, lower_right = flat[index], flat[index + 1]
        upper_left, upper_right = flat[index + columns], flat[index + columns + 1]
        lower = lower_left + a * (lower_right - lower_left)
        upper = upper_left + a * (upper_right - upper_left)
        outside_distance = torch.hypot(u_beyond, v_beyond)
        safe_distance = outside_distance.clamp(min=torch.finfo(x.dtype).tiny)
        grad_x = ((lower_right - lower_left) * (1 - b) + (upper_right - upper_left) * b) / cell_width * u_inside
        gradient = (
            grad_x - u_beyond / safe_distance,
            (upper - lower) / cell_height * v_inside - v_beyond / safe_distance,
        )
        ctx.save_for_backward(*gradient)
        return lower + b * (upper - lower) - outside_distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_output: Tensor) -> tuple[Tensor, None, None]:  # pyrefly: ignore
        grad_x, grad_y = ctx.saved_tensors
        return torch.stack([grad_output[0] * grad_x, grad_output[0] * grad_y], -1), None, None


def _grid_position(x: Tensor, start: float, step: float, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the position of a coordinate on the grid, clamped to its ends, and two values for points beyond it.

    These are the signed distance to the end, and a mask that is 1 inside.
    """
    position = (x - start) / step
    clamped = position.clamp(0, size - 1)
    return clamped, (position - clamped) * step, (position == clamped).to(x.dtype)
