"""Modality of arrays of real numbers of any shape, such as the latents of an autoencoder."""

import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.data.files import sample_folder
from feller.data.files.numpy_files import write_arrays
from feller.data.labels import label_arrays, relabel
from feller.data.loading.raw import RawArrays, RawExamples, expect
from feller.data.modality import Dataset, Modality, Writer, check_finite_state
from feller.spaces import Euclidean


@dataclass(frozen=True)
class Arrays(Modality):
    """Modality of real arrays of one shape, standardised by one mean and one standard deviation for all entries."""

    display_name = "arrays of numbers"
    raw_type = RawArrays

    shape: tuple[int, ...]
    mean: float = 0.0
    scale: float = 1.0
    """Standard deviation of all entries of the training data."""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1 or not 0 < self.scale < float("inf"):
            raise InputError("a shape and a positive scale", f"{self.shape} and {self.scale:g}")

    @property
    def writers(self) -> dict[str, Writer]:
        return {**self.array_forms, "": self._write_folder}

    @property
    def log_scale(self) -> float:
        return float(np.prod(self.shape) * np.log(self.scale))

    def space(self) -> Euclidean:
        return Euclidean(self.shape)

    def encode(self, values: Float[Tensor, " n *d"]) -> Float[Tensor, " n *d"]:
        return ((values.double() - self.mean) / self.scale).float()

    def decode(self, state: Float[Tensor, " n *d"]) -> Float[Tensor, " n *d"]:
        """Convert states to values: multiply by the scale and add the mean, in float32."""
        check_finite_state(state)
        return (state.double() * self.scale + self.mean).float()

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        values = expect(raw, RawArrays).values
        if values.shape[1:] != self.shape:
            raise InputError(f"arrays of shape [{', '.join(map(str, ('n', *self.shape)))}]", list(values.shape))
        return torch.from_numpy(values).float(), relabel(raw, self.classes)

    def arrays(self, values: Float[Tensor, " n *d"], given: Cond) -> dict[str, np.ndarray]:
        """Return .npz arrays: `samples`, float32 [n, *shape], and the labels."""
        return {"samples": values.detach().cpu().numpy(), **label_arrays(given, self.classes)}

    def show(self, values: Float[Tensor, " n *d"], given: Cond, columns: int | None = None) -> Image.Image:
        """Draw the first 2D plane of each array in gray levels, from -3 to +3 standard deviations around the mean."""
        planes = values.detach().cpu().reshape(len(values), -1, *self.shape[-2:] if len(self.shape) > 1 else (1, -1))
        levels = ((planes[:, 0] - self.mean) / (6 * self.scale) + 0.5).clamp(0, 1) * 255
        return sample_folder.tile(levels.round().to(torch.uint8).numpy()[..., None], columns)

    def _write_folder(self, values: Tensor, given: Cond, out: pathlib.Path) -> None:
        sample_folder.prepare(out)
        sample_folder.save_overview(self.show(values[:MAX_OVERVIEW_ARRAYS], given), out, ["samples.npz"])
        write_arrays(self.arrays(values, given), out / "samples.npz")


MAX_OVERVIEW_ARRAYS = 64
"""Maximum number of arrays in the overview image of a folder."""


def array_dataset(raw: RawArrays) -> Dataset:
    """Build a data set of arrays; its modality gets the mean and standard deviation of all entries."""
    values = raw.values
    modality = Arrays(values.shape[1:], float(values.mean()), float(values.std()) or 1.0, raw.classes)
    return Dataset(*modality.values_from_raw(raw), modality, raw.notes)
