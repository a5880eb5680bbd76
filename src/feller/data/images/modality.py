"""Modality of images: gray or RGB, all of one size."""

import pathlib
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Real, Shaped, UInt8
from PIL import Image
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.core.rng import RandomStream
from feller.core.serialization import replace_file
from feller.data.files import sample_folder
from feller.data.images.image_loading import FILE_COLUMN
from feller.data.images.image_resizing import from_pixels
from feller.data.images.pixel_codes import AsNumbers, PixelEncoding
from feller.data.labels import label_arrays, label_names, relabel
from feller.data.loading.class_folders import CAPTIONS_FILE
from feller.data.loading.raw import RawExamples, RawImages, expect
from feller.data.modality import Dataset, Modality, Writer
from feller.spaces import Space

MAX_OVERVIEW_IMAGES = 256
"""Maximum number of images in the overview of a folder."""


@dataclass(frozen=True)
class Images(Modality):
    """Modality of images with integer pixel values from 0 (black) to `levels` (white)."""

    display_name = "images"
    raw_type = RawImages

    height: int
    width: int
    channels: int
    """Number of channels: 1 for gray, 3 for RGB."""
    levels: int = 255
    classes: tuple[str, ...] = ()
    code: PixelEncoding = field(default_factory=AsNumbers)
    """Encoding of pixel values as states."""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or not 1 <= self.levels <= 255 or self.height < 1 or self.width < 1:
            raise InputError(
                "images with 1 or 3 channels and 1 to 255 levels",
                f"{self.height} x {self.width} x {self.channels} with {self.levels}",
            )

    @property
    def writers(self) -> dict[str, Writer]:
        """Writers by file suffix: arrays, or a folder of PNG in class subfolders if labelled, with captions.csv."""
        return {**self.array_forms, "": self._write_folder}

    @property
    def read_size(self) -> int:
        return max(self.height, self.width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.height, self.width

    @property
    def own_recipe(self) -> str:
        return "" if self.code.module is None else "latent-images"

    @property
    def aux_networks(self) -> dict[str, nn.Module]:
        """Autoencoder of the latents, if the states are latents."""
        return {} if self.code.module is None else {"autoencoder": self.code.module}

    def for_metrics(self, data: Dataset) -> Dataset:
        """Return data whose states are pixels, so that metrics of latent and pixel models are comparable."""
        return data if self.code.module is None else replace(data, modality=replace(self, code=AsNumbers()))

    def space(self) -> Space:
        return self.code.space(self.shape, self.levels)

    def encode(self, values: UInt8[Tensor, "n c h w"] | Float[Tensor, "n copies m rows columns"]) -> Tensor:
        """Encode pixel values as states; moments of latents, which a fit computes once, are returned unchanged."""
        return self.code.encode(values, self.levels)

    def dequantize(self, values: UInt8[Tensor, "n c h w"], rng: RandomStream) -> Tensor:
        return self.code.dequantize(values, self.levels, rng)

    @property
    def log_scale(self) -> float | None:
        return self.code.log_scale(self.shape, self.levels)

    def decode(self, state: Shaped[Tensor, "n k rows columns"]) -> UInt8[Tensor, "n c h w"]:
        return self.code.decode(state, self.levels)

    def decode_soft(self, state: Float[Tensor, "n k rows columns"]) -> Float[Tensor, "n c h w"]:
        """Convert states to pixel values without rounding or clipping; values can lie outside of 0..`levels`."""
        return self.code.decode_soft(state, self.levels)

    def fill_undecided(self, state: Tensor) -> Tensor:
        return state if state.is_floating_point() else torch.where(state > self.levels, 0, state)

    def convert(self, data: Dataset) -> Dataset:
        """Convert a dataset to this modality; the images of other modalities, such as documents, are extracted."""
        images = None if data.modality.view(Images) else data.modality.image_values(data.values)
        return super().convert(data) if images is None else Dataset(images, {}, self, data.notes)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        raw = expect(raw, RawImages)
        values, expected = raw.values, (self.height, self.width, self.channels)
        if values.shape[3] == 1 and self.channels == 3:
            values = values.repeat(3, axis=3)
        if values.shape[1:] != expected:
            shape = raw.values.shape[1:]
            actual = f"{' x '.join(map(str, shape))} after resizing the longer side to {max(shape[:2])}"
            raise InputError(f"images of {' x '.join(map(str, expected))}", actual, "Crop the images to the same shape")
        levels = raw.levels or (self.levels if values.max() <= self.levels else 255)
        return torch.from_numpy(_rescale(values, levels, self.levels).transpose(0, 3, 1, 2).copy()), relabel(
            raw, self.classes
        )

    def arrays(self, values: UInt8[Tensor, "n c h w"], given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `samples`, uint8 [n, h, w] or [n, h, w, c]; `levels` if not 255; conditions."""
        samples = values.cpu().numpy().transpose(0, 2, 3, 1)
        levels = {} if self.levels == 255 else {"levels": np.array(self.levels)}
        return {
            "samples": np.ascontiguousarray(samples[..., 0] if self.channels == 1 else samples),
            **levels,
            **label_arrays(given, self.classes),
            **self.condition_arrays(given),
        }

    def show(self, values: UInt8[Tensor, "n c h w"], given: Cond, columns: int | None = None) -> Image.Image:
        return sample_folder.tile(self._seen(values), columns)

    def as_bytes(self, values: Real[Tensor, "*n c h w"]) -> UInt8[np.ndarray, "*n h w c"]:
        """Convert pixel values, which may be fractional or out of range (a mean image), to bytes 0..255 for display."""
        pixels = values if values.is_floating_point() else values.float()
        scaled = (pixels * (255 / self.levels)).clamp(0, 255).round().to(torch.uint8)
        return np.ascontiguousarray(scaled.movedim(-3, -1).cpu().numpy())

    def _seen(self, values: Tensor) -> np.ndarray:
        """Convert pixel values to display bytes, uint8 [n, h, w, c]."""
        return _rescale(values.cpu().numpy().transpose(0, 2, 3, 1), self.levels, 255)

    def _write_folder(self, values: Tensor, given: Cond, out: pathlib.Path) -> None:
        sample_folder.prepare(out)
        names = label_names(given, self.classes)
        folders = [""] * len(values) if names is None else [f"{sample_folder.folder_name(name)}/" for name in names]
        files = [
            f"{folder}{number}.png"
            for folder, number in zip(folders, sample_folder.numbered_names(len(values)), strict=True)
        ]
        cells = self.condition_cells(given)
        overview = self.show(values[:MAX_OVERVIEW_IMAGES], given)
        sample_folder.save_overview(overview, out, [*files, *([CAPTIONS_FILE] if cells else [])])
        if cells:
            replace_file(out / CAPTIONS_FILE, pd.DataFrame({FILE_COLUMN: files, **cells}).to_csv(index=False))
        for file, pixels in zip(files, self._seen(values), strict=True):
            (out / file).parent.mkdir(exist_ok=True)
            sample_folder.write_picture(from_pixels(pixels), out / file)


def _rescale(values: np.ndarray, levels: int, new_levels: int) -> np.ndarray:
    """Rescale integer pixel values to another white level; a round trip is exact if `new_levels` is larger."""
    if levels == new_levels:
        return values
    return ((values.astype(np.int64) * new_levels * 2 + levels) // (2 * levels)).astype(np.uint8)


def image_dataset(raw: RawImages) -> Dataset:
    """Build a data set of images.

    The pixel value of white is taken from the file. If the file does not state it, it is the largest pixel value of the
    images if that is at most 16, otherwise 255.
    """
    _, height, width, channels = raw.values.shape
    levels, notes = raw.levels or 255, raw.notes
    largest = int(raw.values.max())
    if raw.levels is None and 0 < largest <= 16:
        levels, notes = largest, (*notes, f"the largest pixel value, {largest}, was used as white")
    modality = Images(height, width, channels, levels, raw.classes)
    return Dataset(*modality.values_from_raw(raw), modality, notes)
