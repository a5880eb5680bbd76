"""Modality of torsion angles in named columns, and Ramachandran plots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError
from feller.core.pytree import Cond
from feller.data.figures import MAX_POINTS, PANELS, class_masks, figure_to_image, marker_size, panels
from feller.data.labels import relabel
from feller.data.loading.raw import RawExamples, RawPoints
from feller.data.modality import Dataset, check_finite_state
from feller.data.points.columns import angle_unit, check_names, columns_in_order
from feller.data.points.modality import NumericRows
from feller.spaces import Torus

TICKS = (-180, -90, 0, 90, 180)


def ramachandran(
    degrees: np.ndarray,
    columns: tuple[str, ...],
    labels: np.ndarray | None,
    classes: tuple[str, ...],
    across: int | None = None,
) -> Image.Image:
    """Plot each angle against the next as a scatter plot; a single angle becomes a histogram.

    Args:
        degrees: Angles in degrees, [n, d].
        columns: Names of the d angles, for the axes.
        labels: Class index of each row, [n], which sets its colour; None for one colour.
        classes: Class names, for the legend.
        across: Number of panels per row of the figure; by default at most 3.
    """
    degrees = (degrees[:MAX_POINTS] + 180) % 360 - 180
    count = min(max(1, degrees.shape[1] - 1), PANELS)
    figure, all_axes = panels(count, across or (2 if count in (2, 4) else 3), width=4.0, height=4.0)
    for i, axes in enumerate(all_axes):
        for colour, rows in class_masks(len(degrees), labels, classes):
            if degrees.shape[1] == 1:
                axes.hist(degrees[rows, 0], bins=np.linspace(-180, 180, 73), color=colour, alpha=0.6)
            else:
                size = marker_size(len(degrees))
                axes.scatter(degrees[rows, i], degrees[rows, i + 1], s=size, color=colour, linewidths=0, alpha=0.6)
                axes.set(ylim=(-180, 180), yticks=TICKS, aspect="equal")
                axes.set_ylabel(f"{columns[i + 1]} (°)", parse_math=False)
        axes.set(xlim=(-180, 180), xticks=TICKS)
        axes.set_xlabel(f"{columns[i]} (°)", parse_math=False)
        axes.grid(color="#d5dde5", linewidth=0.7)
        axes.axhline(0, color="#9aa7b4", linewidth=0.8, zorder=1)
        axes.axvline(0, color="#9aa7b4", linewidth=0.8, zorder=1)
        axes.set_axisbelow(True)
    return figure_to_image(figure, labels, classes)


TURNS = {"deg": 360.0, "rad": 2 * math.pi}
NAMES = {360.0: "degrees", 2 * math.pi: "radians"}
SLACK = 0.01
"""Tolerance in radians of the check that radians do not exceed a full turn."""


@dataclass(frozen=True)
class Torsions(NumericRows):
    """Modality of torsion angles in degrees or radians, as points on a torus; densities are per radian."""

    is_manifold = True
    display_name = "angles"

    columns: tuple[str, ...]  # pyrefly: ignore
    turns: tuple[float, ...]
    """Full turn of each column, in the unit of the column: 360 or 2 pi."""
    highs: tuple[float, ...]
    """Upper end `high` of the range of angles in each column. The range is [0, turn) if `high` equals the full turn of
    the column, otherwise (high - turn, high]."""
    classes: tuple[str, ...] = ()  # pyrefly: ignore

    def __post_init__(self) -> None:
        if not len(self.columns) == len(self.turns) == len(self.highs) or not all(turn in NAMES for turn in self.turns):
            raise InputError(
                expected=f"a full turn, 360 or 2 pi, and an upper limit for each of {', '.join(self.columns)}"
            )

    def space(self) -> Torus:
        return Torus((len(self.columns),))

    def encode(self, values: Float[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
        """Convert angles from the units of their columns to radians in [0, 2 pi)."""
        values = values.double()
        return self.space().project((values * (2 * math.pi / values.new_tensor(self.turns))).float())

    def decode(self, state: Float[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
        check_finite_state(state)
        state = state.double()
        return self._wrap(state * (state.new_tensor(self.turns) / (2 * math.pi)))

    def _wrap(self, values: Float64[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
        """Wrap angles into the range of their column; angles inside are unchanged."""
        turn, high = values.new_tensor(self.turns), values.new_tensor(self.highs)
        in_range = (values <= high) & (values > high - turn)
        wrapped = torch.where(in_range, values, high - (high - values).remainder(turn))
        return torch.where((wrapped == high) & (high == turn), 0.0, wrapped)

    def select_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        return self.columns if set(self.columns) <= set(names) else ()

    def values_from_raw(self, raw: RawExamples) -> tuple[Tensor, Cond]:
        """Return (angles with columns in the modality's order, matched by name if possible; label indices)."""
        values = columns_in_order(raw, self.columns)
        check_unit(raw, values, self.columns, self.turns)
        return self._wrap(torch.from_numpy(values)), relabel(raw, self.classes)

    def plot(self, samples: np.ndarray, labels: np.ndarray | None, across: int | None) -> Image.Image:
        return ramachandran(samples * (360 / np.array(self.turns)), self.columns, labels, self.classes, across)


def check_unit(raw: RawExamples, values: np.ndarray, columns: tuple[str, ...], turns: tuple[float, ...]) -> None:
    """Raise an InputError if values of a column in radians exceed a full turn, so that they are probably degrees.

    Args:
        raw: Rows as read from the file, whose row numbers the error gives.
        values: Angles to check, [n, d], in the unit of their column.
        columns: Column names.
        turns: Full turn of each column in its unit: 360 for degrees, 2 pi for radians.
    """
    for column, (name, turn) in enumerate(zip(columns, turns, strict=True)):
        too_large = np.flatnonzero(abs(values[:, column]) > turn + SLACK)
        if turn < 360 and len(too_large):
            raise InputError(
                f"radians in {name!r}, from -2 pi to 2 pi",
                f"{values[too_large[0], column]:g} (degrees?)",
                "Multiply the column by pi/180, or end its name in _deg",
                row=raw.row_number(int(too_large[0])),
            )


def torsion_dataset(raw: RawPoints) -> Dataset:
    """Build a data set of torsion angles from the rows of a file.

    A column whose name ends in _deg or _rad has this unit. All other columns share one unit: degrees if a value exceeds
    a full turn in radians, else radians.

    Raises:
        InputError: If a column with the unit radians contains degrees.
    """
    values = raw.values
    columns = check_names(raw.columns) or tuple(f"angle{i + 1}" for i in range(values.shape[1]))
    without_unit = [i for i, name in enumerate(columns) if angle_unit(name) is None]
    guess = "deg" if (abs(values[:, without_unit]) > TURNS["rad"] + SLACK).any() else "rad"
    turns = tuple(TURNS[angle_unit(name) or guess] for name in columns)
    highs = tuple(
        turn if top > turn / 2 * (1 + 1e-6) else turn / 2 for top, turn in zip(values.max(0), turns, strict=True)
    )
    modality = Torsions(columns, turns, highs, raw.classes)
    return Dataset(*modality.values_from_raw(raw), modality, (*raw.notes, *_unit_notes(columns, without_unit, guess)))


def _unit_notes(columns: tuple[str, ...], without_unit: list[int], guess: str) -> list[str]:
    note = f"read as angles: {', '.join(columns)}"
    if not without_unit:
        return [note]
    reason = "a value exceeds 2 pi" if guess == "deg" else "no value exceeds 2 pi"
    names = ", ".join(columns[i] for i in without_unit) if len(without_unit) < len(columns) else "all"
    return [f"{note}; {names} in {NAMES[TURNS[guess]]}, since {reason} (end a name in _deg or _rad to set its unit)"]
