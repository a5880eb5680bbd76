"""Conditions that are images."""

import math
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image, ImageOps
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.conditions.cells import ConditionColumn, refuse_constant
from feller.data.conditions.condition import Condition
from feller.data.files.sample_folder import is_overview

PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""Formats of image files."""
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""Suffixes of image files, in lower case."""


@dataclass(frozen=True)
class ImageCondition(Condition):
    """Image, float32 [n, channels, height, width] from -1 to 1; the null value is NaN."""

    channels: int
    height: int
    width: int
    low: float = 0.0
    """Value of files that becomes -1."""
    high: float = 255.0
    """Value of files that becomes 1."""
    noise: float = 0.0
    """Maximum standard deviation of the noise added in training; 0 adds none. With noise, the image is the example
    itself, shrunk."""
    _dtype: ClassVar[torch.dtype] = torch.float32
    is_file: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1 or not -math.inf < self.low < self.high < math.inf:
            raise InputError("images of at least one pixel, and low below high", self)
        if not 0 <= self.noise < math.inf:
            raise InputError("noise of at least 0", self.noise)

    @property
    def example(self) -> str:
        return "picture.png"

    @property
    def placeholder(self) -> str:
        return f"an image of {self.width} x {self.height} x {self.channels}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (self.channels, self.height, self.width)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.shape

    def _entries(self, value: Any) -> Any:
        if isinstance(value, Tensor | np.ndarray):
            return value if value.ndim == 4 or (value.ndim == 3 and self.channels == 1) else None
        if isinstance(value, str | os.PathLike) and pathlib.Path(value).is_dir():
            return image_files(pathlib.Path(value))
        return value if isinstance(value, list | tuple) else None

    def encode(self, name: str, column: ConditionColumn) -> Float32[Tensor, "n c h w"]:
        """Convert arrays [n, h, w] or [n, h, w, c], or names of image files, which are resized.

        A tensor [n, c, h, w] of numbers from -1 to 1 is returned unchanged.
        """
        if isinstance(column, Tensor):
            if column.shape[1:] != self._shape or not column.is_floating_point():
                raise InputError(f"images {list(self._shape)}", f"{column.dtype} {list(column.shape)}", argument=name)
            return column.float()
        pixels = column if isinstance(column, np.ndarray) else self._stacked(name, column)
        pixels = pixels[..., None] if pixels.ndim == 3 else pixels
        shape = (self.height, self.width, self.channels)
        if pixels.ndim != 4 or pixels.shape[1:] != shape or pixels.dtype.kind not in "biuf":
            raise InputError(f"images {list(shape)}", list(pixels.shape[1:]), argument=name)
        values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float64))
        if bool(values.isinf().any()):
            raise InputError("finite pixel values", "inf", argument=name)
        if pixels.dtype.kind == "f" and (self.low, self.high) == (0.0, 255.0) and bool((values.amax() <= 1).all()):
            raise InputError("pixels from 0 to 255", "pixels from 0 to 1", "Multiply them by 255", argument=name)
        return (2 * (values - self.low) / (self.high - self.low) - 1).float()

    def _stacked(self, name: str, images: Sequence[object]) -> np.ndarray:
        """Return the pixels of images, [n, h, w, c]."""
        pixels = [self._pixels(image) for image in images]
        shapes = {image.shape for image in pixels}
        if len(shapes) != 1:
            found = "images of different sizes" if shapes else "none"
            raise InputError(f"images {[self.height, self.width, self.channels]}", found, argument=name)
        return np.stack(pixels)

    def outside(self, values: Float32[Tensor, "n c h w"]) -> str | None:
        is_outside = (values.abs() > 1 + 1e-3).any()
        return f"{self.low:g} to {self.high:g}" if bool(is_outside) else None

    def _pixels(self, entry: Any) -> np.ndarray:
        """Return the pixels [h, w, c] of an array, or of an image file, resized to the size of this condition."""
        if not isinstance(entry, str | os.PathLike):
            pixels = np.asarray(entry)
            return pixels[..., None] if pixels.ndim == 2 else pixels
        if self.channels not in (1, 3):
            raise InputError("an array", "a file, which has no images of these channels")
        mode = "L" if self.channels == 1 else "RGB"
        try:
            with Image.open(entry, formats=PICTURE_FORMATS) as image:
                fitted = ImageOps.fit(ImageOps.exif_transpose(image).convert(mode), (self.width, self.height))
        except Exception as error:  # Pillow raises a dozen types on damaged files
            raise InputError("an image file", str(entry), file=entry) from error
        pixels = np.asarray(fitted, dtype=np.float64).reshape(self.height, self.width, self.channels)
        return self.low + pixels / 255 * (self.high - self.low)

    def decode(self, values: Float32[Tensor, "n c h w"]) -> np.ndarray:
        """Convert to pixels [n, h, w, c] as in files: bytes if they were bytes, with 0 for null."""
        pixels = (values.detach().cpu().double().nan_to_num(-1) + 1) / 2 * (self.high - self.low) + self.low
        pixels = pixels.permute(0, 2, 3, 1)
        is_bytes = (self.low, self.high) == (0.0, 255.0)
        return (pixels.round().clamp(0, 255).to(torch.uint8) if is_bytes else pixels).numpy()


def image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the images in a folder, in order of their numbers or names, without the overview of samples.

    Raises:
        UsageError: If there are none.
    """
    files = [path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_ENDINGS and path.is_file()]
    files = sorted((path for path in files if not is_overview(path)), key=lambda path: (path.name, path))
    if not files:
        raise UsageError("a folder of images", "none", file=folder)
    return files


def fit_image(name: str, column: Tensor | np.ndarray) -> ImageCondition:
    """Return the type of an image condition, with the size and the range of its values in the training data."""
    pixels = column.detach().cpu().numpy() if isinstance(column, Tensor) else column
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    if pixels.dtype.kind not in "biuf" or not np.isfinite(pixels).all():
        raise InputError("images of finite numbers", pixels.dtype, argument=name)
    low, high = float(pixels.min()), float(pixels.max())
    refuse_constant(name, bool((pixels == pixels[:1]).all()))
    _, height, width, channels = pixels.shape
    if pixels.dtype == np.uint8:
        low, high = 0.0, 255.0
    return ImageCondition(channels, height, width, low, high)
