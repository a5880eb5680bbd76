"""Modality of Euclidean points: rows of real numbers with named columns."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Real
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.data.labels import relabel
from feller.data.loading.raw import RawExamples, RawPoints
from feller.data.modality import Dataset, check_finite_state
from feller.data.points.columns import check_names, columns_in_order
from feller.data.points.figure import scatter
from feller.data.points.modality import NumericRows
from feller.spaces import Euclidean


@dataclass(frozen=True)
class Points(NumericRows):
    """Modality of rows of real numbers, standardised per column with the statistics of the training data."""

    display_name = "rows of numbers"
    is_tabular = True

    columns: tuple[str, ...]  # pyrefly: ignore
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    """Standard deviation of each column; 1 for a constant column."""
    classes: tuple[str, ...] = ()  # pyrefly: ignore

    def __post_init__(self) -> None:
        if not len(self.columns) == len(self.mean) == len(self.scale) or not all(0 < s < np.inf for s in self.scale):
            raise InputError(expected=f"a mean and a positive scale for each of the columns {', '.join(self.columns)}")

    @property
    def comparison_key(self) -> object:
        return self.columns

    @property
    def figure_key(self) -> object:
        return self.columns

    @property
    def log_scale(self) -> float:
        return float(np.log(self.scale).sum())

    def space(self) -> Euclidean:
        return Euclidean((len(self.columns),))

    def encode(self, values: Float[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
        """Convert values to states: subtract the mean and divide by the scale, in float64."""
        values = values.double()
        return ((values - values.new_tensor(self.mean)) / values.new_tensor(self.scale)).float()

    def decode(self, state: Real[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
        """Convert states to values: multiply by the scale and add the mean, in float64."""
        check_finite_state(state)
        state = state.double()
        return state * state.new_tensor(self.scale) + state.new_tensor(self.mean)

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        """Return rows [n, d] with columns in the modality's order, and the conditions.

        The columns of the file are matched by name if it has column names. The conditions hold the class ids `label`,
        and are empty without labels.
        """
        return torch.from_numpy(columns_in_order(raw, self.columns)), relabel(raw, self.classes)

    def plot(self, samples: np.ndarray, labels: np.ndarray | None, across: int | None) -> Image.Image:
        return scatter(samples, self.columns, labels, self.classes, across)

    def show_at_scale_of(self, data: Dataset, other: Dataset, background: Dataset | None = None) -> Image.Image:
        """Plot points of `data` on axes that also fit the points `other`, optionally over grey points `background`."""
        arrays = self.arrays(data.values, data.given)
        limits, grey = (
            None if dataset is None else self.arrays(dataset.values, {})["samples"] for dataset in (other, background)
        )
        options = {"same_scale_as": limits, "background": grey}
        return scatter(arrays["samples"], self.columns, arrays.get("labels"), self.classes, **options)


def points_dataset(raw: RawPoints) -> Dataset:
    """Build a data set of points; its modality gets the mean and standard deviation of each column.

    Raises:
        InputError: If a column has the name of a label column, or its range is too small or too large for a standard
            deviation.
    """
    values = raw.values
    columns = check_names(raw.columns) or tuple(f"x{i + 1}" for i in range(values.shape[1]))
    low, is_constant = values.min(0), values.max(0) == values.min(0)
    with np.errstate(all="ignore"):
        span = values.max(0) - low
        # Squares of values of order 1 neither underflow nor overflow.
        unit = (values - low) / np.where(is_constant, 1, span)
        scale = np.where(is_constant, 1, unit.std(0) * span)
        mean = low + unit.mean(0) * span
    bad = ~(np.isfinite(scale) & (scale > 0) & np.isfinite(mean))
    if bad.any():
        raise InputError(
            "the range of values is too small or too large", remedy="Change the unit", column=columns[int(bad.argmax())]
        )
    modality = Points(columns, tuple(mean.tolist()), tuple(scale.tolist()), raw.classes)
    notes = tuple(f"column {name!r} is constant" for name, is_same in zip(columns, is_constant, strict=True) if is_same)
    return Dataset(*modality.values_from_raw(raw), modality, (*raw.notes, *notes))
