"""Reading of the populations of a bridge, conversion to common units, and choice of the default noise."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from feller.app.workflows.bridges.bridge_detection import check_several
from feller.app.workflows.run_config import fingerprint
from feller.core.errors import InputError, UsageError, check_number
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.points.euclidean_points import Points
from feller.data.points.modality import NumericRows
from feller.data.points.named_spaces import FLAT
from feller.data.tables.column import Categorical, Column
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical

MAX_OFFSET = 1000.0
"""Maximum ratio of the mean of the data to their range; above it the mean is subtracted to limit float32 rounding."""
COLUMNS = 5
"""Maximum number of non-numeric columns listed in an error message."""
PICTURE_NOTE = (
    "noise, distances and costs of images use pixel values from -1 (black) to 1 (white); files hold the original levels"
)
"""Note about the units of noise, distances and costs for images."""


@dataclass(frozen=True, eq=False)
class Populations:
    """Populations of a bridge: their samples as unscaled states, that is in data units, and their common modality."""

    names: tuple[str, ...]
    """Files, folders or examples from which the populations were read."""
    modality: Points | Images
    states: tuple[Tensor, ...]
    """Samples of each population as states, [n, *d]."""
    notes: tuple[str, ...]
    fingerprints: tuple[str, ...]
    """Hash of each population as it was read."""

    @property
    def all_states(self) -> Float[Tensor, " n *d"]:
        """States of all populations, concatenated."""
        return torch.cat(self.states)

    @property
    def spread(self) -> float:
        """Standard deviation of one state entry within a population, averaged over all entries and populations."""
        return float(torch.stack([(x - x.mean(0)).square().mean() for x in self.states]).mean().sqrt())


def read_populations(names: Sequence[str], longest: int | None = None) -> Populations:
    """Read populations of the same modality; the first population determines columns and sizes.

    Args:
        names: Files, folders or examples.
        longest: Length in pixels of the longer side to which images are resized; None for the default.

    Raises:
        InputError: If a population is missing or damaged, has other columns or a single sample, or equals another
            population.
        UsageError: If there are fewer than two populations, or if they are neither numeric rows nor images.
    """
    check_several(names)
    first = _read(names[0], longest, None)
    first_modality: Points | Images | None = first.modality.view(Points) or first.modality.view(Images)
    if first_modality is None:
        table = as_table(first).modality.view(Table)
        reason = "" if table is None else _no_numbers(table)
        first_type = first.modality.display_name
        raise UsageError(f"a bridge needs numeric rows or images; {names[0]} contains {first_type}{reason}")
    datasets = [first, *(_read(name, longest, first) for name in names[1:])]
    for name, data in zip(names, datasets, strict=True):
        if len(data) < 2:
            raise InputError("a population of two or more samples", f"a single {_member(data)}", place=name)
    for (name_a, a), (name_b, b) in zip(
        zip(names, datasets, strict=True), zip(names[1:], datasets[1:], strict=False), strict=False
    ):
        if a.values.shape == b.values.shape and torch.equal(_sorted(a.values), _sorted(b.values)):
            raise InputError(f"{name_a} and {name_b} contain the same samples", remedy="Choose another population")
    modality = _shifted_modality(first_modality, datasets)
    for name, data in zip(names, datasets, strict=True):
        if not modality.encode(data.values).square().sum().isfinite():
            raise InputError("its values are too large for float32", remedy="Change their units", place=name)
    labelled = [name for name, data in zip(names, datasets, strict=True) if data.given]
    notes = [note for data in datasets for note in data.notes if "constant" not in note]
    if first_modality.view(Images) is not None:
        notes.append(PICTURE_NOTE)
    if labelled:
        notes.append(f"labels were ignored: {', '.join(labelled)}")
    return Populations(
        tuple(names),
        modality,
        tuple(modality.encode(data.values) for data in datasets),
        tuple(dict.fromkeys(notes)),
        tuple(fingerprint(data) for data in datasets),
    )


def _read(name: str, longest: int | None, first: Dataset | None) -> Dataset:
    """Read one population; numeric rows are read as Euclidean points even if they could lie on a manifold."""
    if first is not None:
        points = first.modality.view(Points)
        data = read(name, like=first.modality if points is None else replace(points, classes=()))
        data.require_in_memory("a bridge")
        return replace(data, given={})
    data = read(name, longest=longest)
    data.require_in_memory("a bridge")
    if data.modality.view(NumericRows) and not data.modality.view(Points):
        data = read(name, space=FLAT)
    return data


def _no_numbers(table: Table) -> str:
    """Return text for an error that lists the non-numeric columns of a table, with a remedy."""
    names = [column.name for column in table.schema.columns if not _is_number(column)]
    if not names:
        return "; write numbers with a decimal point, as 1.5, and leave no cell empty"
    names_text = ", ".join(names[:COLUMNS]) + (f" and {len(names) - COLUMNS} more" if len(names) > COLUMNS else "")
    predicate = "is not a numeric column" if len(names) == 1 else "are not numeric columns"
    return f": {names_text} {predicate}; remove text and dates, and write numbers with a decimal point, as 1.5"


def _is_number(column: Column) -> bool:
    """Return True if all cells of a column are numbers, even if the column was read as categorical."""
    if not isinstance(column, Categorical):
        return isinstance(column, Numerical)
    return all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value) for value in column.values)


def _member(data: Dataset) -> str:
    return "row" if data.modality.view(Points) else "image"


def _sorted(values: Tensor) -> Tensor:
    """Return samples in sorted order, so that their order in the file does not matter."""
    rows = values.flatten(1).double()
    for column in reversed(range(min(rows.shape[1], 8))):
        rows = rows[rows[:, column].argsort(stable=True)]
    return rows


def _shifted_modality(modality: Points | Images, datasets: Sequence[Dataset]) -> Points | Images:
    """Return the modality with a shift to the origin if the data are far from zero, and without scaling."""
    if (points := modality.view(Points)) is None:
        return replace(modality, classes=())
    values = torch.cat([data.values for data in datasets]).double()
    mean, extent = values.mean(0), (values.amax(0) - values.amin(0)).max().clamp(min=1e-300)
    shift = tuple(mean.tolist()) if mean.abs().max() > MAX_OFFSET * extent else (0.0,) * len(points.columns)
    return replace(points, mean=shift, scale=(1.0,) * len(points.columns), classes=())


def usual_noise(populations: Populations, calls: int) -> float:
    """Return the default noise of a bridge: half the average standard deviation of a state entry within a population.

    It is reduced if a bridge with `calls` simulation steps could not reach the narrowest population with this noise.
    """
    return min(0.5 * populations.spread, _max_noise(populations, calls))


def check_noise(noise: float, populations: Populations, calls: int) -> None:
    """Raise an error if trajectories with this noise cannot reach the populations in `calls` simulation steps.

    Raises:
        UsageError: If the noise is negative, so small that it is lost to rounding, or so large that the last step blurs
            a population.
    """
    check_number("noise", noise, ge=0, lt=math.inf)
    max_noise = _max_noise(populations, calls)
    if noise > max_noise:
        raise UsageError(
            f"{noise:g} is too large: the last of {calls} steps would blur a population with standard deviation"
            f" {_min_std(populations):.3g}",
            remedy=f"Use {_rounded_down(max_noise)} or less, or more steps (--nfe)",
            argument="noise",
        )
    if 0 < noise < 1e-4 * populations.spread:
        raise UsageError(
            f"{noise:g} is too small compared with the standard deviation {populations.spread:.3g} within the"
            " populations, and would be lost to rounding",
            remedy="Use 0 for no noise, or a larger value",
            argument="noise",
        )


def _max_noise(populations: Populations, nfe: int) -> float:
    """Return the noise for which the last step's noise is half the smallest standard deviation of a population."""
    return 0.5 * _min_std(populations) * nfe**0.5


def _rounded_down(value: float) -> str:
    """Format a number with two significant digits, rounded down."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.floor(value / unit) * unit:.10g}"


def _min_std(populations: Populations) -> float:
    stds = [float((x - x.mean(0)).square().mean().sqrt()) for x in populations.states]
    return min((std for std in stds if std > 0), default=math.inf)
