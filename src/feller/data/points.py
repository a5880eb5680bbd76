"""Points: rows of real numbers with named columns."""

import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from PIL import Image
from torch import Tensor

from feller.data import overview
from feller.data.arrays import write_array, write_arrays
from feller.data.found import LABEL_NAMES, Found, Given, relabel
from feller.data.modality import Dataset, Modality, Write, check_finite_state, label_arrays, label_names
from feller.data.scatter import scatter
from feller.data.tables import write_table
from feller.errors import InputError
from feller.spaces import Euclidean


@dataclass(frozen=True)
class Points(Modality):
    """Rows of numbers; each column is moved and scaled to mean 0 and deviation 1 in the training data."""

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    """Standard deviation of each column; 1 where it is constant."""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.columns) == len(self.mean) == len(self.scale) or not all(0 < s < np.inf for s in self.scale):
            raise InputError(f"expected a mean and a positive scale for each of the columns {', '.join(self.columns)}")

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """The label, where there are classes."""
        return {"label": self.classes} if self.classes else {}

    @property
    def forms(self) -> dict[str, Write]:
        """Tables, arrays (.npy without names and labels), or a folder with a table and a picture."""
        table = dict.fromkeys((".csv", ".tsv", ".txt", ".parquet"), self._write_table)
        return {
            ".npz": lambda values, given, out: write_arrays(self.arrays(values, given), out),
            ".npy": lambda values, given, out: write_array(self.arrays(values, {})["samples"], out),
            **table,
            "": self._write_folder,
        }

    def space(self) -> Euclidean:
        """Return R^d."""
        return Euclidean((len(self.columns),))

    def encode(self, values: Float[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
        """Subtract the mean and divide by the scale, in float64."""
        values = values.double()
        return ((values - values.new_tensor(self.mean)) / values.new_tensor(self.scale)).float()

    def decode(self, state: Float[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
        """Multiply by the scale and add the mean, in float64."""
        check_finite_state(state)
        state = state.double()
        return state * state.new_tensor(self.scale) + state.new_tensor(self.mean)

    def accept(self, found: Found) -> tuple[Tensor, Given]:
        """Put columns into our order, by name if the file has names, and number labels by our classes."""
        values = found.values
        if values.ndim != 2:
            raise InputError(f"expected points with columns {', '.join(self.columns)}, got pictures")
        names = found.columns or self.columns
        if len(names) != values.shape[1] or set(names) != set(self.columns):
            got = ", ".join(found.columns) or f"{values.shape[1]} without names"
            raise InputError(f"expected the columns {', '.join(self.columns)}, got {got}")
        order = [names.index(name) for name in self.columns]
        return torch.from_numpy(np.ascontiguousarray(values[:, order], dtype=np.float64)), relabel(found, self.classes)

    def arrays(self, values: Float[Tensor, "n d"], given: Given) -> dict[str, np.ndarray]:
        """Return `samples`, float64 [n, d], the names in `columns`, and the labels."""
        samples = values.detach().cpu().double().numpy()
        return {"samples": samples, "columns": np.array(self.columns), **label_arrays(given, self.classes)}

    def show(self, values: Float[Tensor, "n d"], given: Given, columns: int | None = None) -> Image.Image:
        """Draw one panel for each two neighbouring columns, `columns` panels in a row."""
        arrays = self.arrays(values, given)
        return scatter(arrays["samples"], self.columns, arrays.get("labels"), self.classes, columns)

    def _write_table(self, values: Tensor, given: Given, out: pathlib.Path) -> None:
        write_table(self.columns, self.arrays(values, {})["samples"], label_names(given, self.classes), out)

    def _write_folder(self, values: Tensor, given: Given, out: pathlib.Path) -> None:
        overview.prepare(out)
        overview.save(self.show(values, given), out, [overview.TABLE])
        self._write_table(values, given, out / overview.TABLE)


def points(found: Found) -> Dataset:
    """Make a data set of points, each column with its mean and deviation.

    Raises:
        InputError: If the numbers of a column are too large or too small for a deviation.
    """
    values = found.values
    columns = found.columns or tuple(f"x{i + 1}" for i in range(values.shape[1]))
    taken = [name for name in columns if name.lower() in LABEL_NAMES]
    if taken:
        raise InputError(f"a column of numbers cannot be called {taken[0]!r}, which names classes; rename it")
    low, constant = values.min(0), values.max(0) == values.min(0)
    with np.errstate(all="ignore"):
        span = values.max(0) - low
        unit = (values - low) / np.where(
            constant, 1, span
        )  # squares of what is as large as 1 neither vanish nor overflow
        scale = np.where(constant, 1, unit.std(0) * span)
        mean = low + unit.mean(0) * span
    bad = ~(np.isfinite(scale) & (scale > 0) & np.isfinite(mean))
    if bad.any():
        raise InputError(f"column {columns[int(bad.argmax())]!r} spans too little or too much; change its unit")
    modality = Points(columns, tuple(mean.tolist()), tuple(scale.tolist()), found.classes)
    notes = tuple(f"column {name!r} is constant" for name, same in zip(columns, constant, strict=True) if same)
    return Dataset(*modality.accept(found), modality, (*found.notes, *notes))
