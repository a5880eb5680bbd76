"""Populations of a bridge: read, scaled to common units, with the default noise."""

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
"""Extents of the data from zero beyond which single precision would round their places."""
COLUMNS = 5
"""Columns without numbers that are named."""
PICTURE_NOTE = (
    "pictures are numbers from -1, black, to 1, white, in noise, distances and costs; files hold their levels"
)
"""What is said of the unit of pictures."""


@dataclass(frozen=True, eq=False)
class Populations:
    """Members of each population, as they were read and as states: places that are not scaled."""

    names: tuple[str, ...]
    """Files, folders or examples."""
    modality: Points | Images
    states: tuple[Tensor, ...]
    """Of each, [n, *d]."""
    notes: tuple[str, ...]
    fingerprints: tuple[str, ...]
    """Hashes of what was read."""

    @property
    def all_states(self) -> Float[Tensor, " n *d"]:
        """All members."""
        return torch.cat(self.states)

    @property
    def spread(self) -> float:
        """Deviation of an entry of a state within its population, over all entries and populations."""
        return float(torch.stack([(x - x.mean(0)).square().mean() for x in self.states]).mean().sqrt())


def read_populations(names: Sequence[str], longest: int | None = None) -> Populations:
    """Read populations and bring them to one kind; the first decides on columns and sizes.

    Args:
        names: Files, folders or examples.
        longest: Longer side that pictures are brought to.

    Raises:
        InputError: If one is missing or damaged, has other columns, holds one member only, or is the same as another.
        UsageError: If there are fewer than two, or they are neither numbers nor pictures.
    """
    check_several(names)
    first = _read(names[0], longest, None)
    kind: Points | Images | None = first.modality.view(Points) or first.modality.view(Images)
    if kind is None:
        table = as_table(first).modality.view(Table)
        why = "" if table is None else _no_numbers(table)
        held = first.modality.display_name
        raise UsageError(f"a bridge joins rows of numbers or pictures, and {names[0]} holds {held}{why}")
    sets = [first, *(_read(name, longest, first) for name in names[1:])]
    for name, data in zip(names, sets, strict=True):
        if len(data) < 2:
            raise InputError("a population", f"one {_member(data)}", "Two are the least", place=name)
    for (one, a), (other, b) in zip(
        zip(names, sets, strict=True), zip(names[1:], sets[1:], strict=False), strict=False
    ):
        if a.values.shape == b.values.shape and torch.equal(_sorted(a.values), _sorted(b.values)):
            raise InputError(
                f"{one} and {other} hold the same members, so there is nothing to bridge", remedy="Name another"
            )
    modality = _shifted_modality(kind, sets)
    for name, data in zip(names, sets, strict=True):
        if not modality.encode(data.values).square().sum().isfinite():
            raise InputError("its numbers are too large for single precision", remedy="Change their unit", place=name)
    labels = [name for name, data in zip(names, sets, strict=True) if data.given]
    notes = [note for data in sets for note in data.notes if "constant" not in note]
    if kind.view(Images) is not None:
        notes.append(PICTURE_NOTE)
    if labels:
        notes.append(f"labels were left aside: {', '.join(labels)}")
    return Populations(
        tuple(names),
        modality,
        tuple(modality.encode(data.values) for data in sets),
        tuple(dict.fromkeys(notes)),
        tuple(fingerprint(data) for data in sets),
    )


def _read(name: str, longest: int | None, first: Dataset | None) -> Dataset:
    """Read one population, as plain numbers where rows could mean more."""
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
    """Name the columns of a table that are no numbers, and what to do about them."""
    named = [column.name for column in table.schema.columns if not _is_number(column)]
    if not named:
        return "; are numbers written with a point, as 1.5, and is no cell empty?"
    listed = ", ".join(named[:COLUMNS]) + (f" and {len(named) - COLUMNS} more" if len(named) > COLUMNS else "")
    are = "is no column" if len(named) == 1 else "are no columns"
    return f": {listed} {are} of numbers; leave out words and dates, and write numbers with a point, as 1.5"


def _is_number(column: Column) -> bool:
    """Tell whether all cells of a column that was read are numbers, also where it has few of them."""
    if not isinstance(column, Categorical):
        return isinstance(column, Numerical)
    return all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word) for word in column.values)


def _member(data: Dataset) -> str:
    return "row" if data.modality.view(Points) else "picture"


def _sorted(values: Tensor) -> Tensor:
    """Bring members into an order that does not depend on that of the file."""
    rows = values.flatten(1).double()
    for column in reversed(range(min(rows.shape[1], 8))):
        rows = rows[rows[:, column].argsort(stable=True)]
    return rows


def _shifted_modality(kind: Points | Images, sets: Sequence[Dataset]) -> Points | Images:
    """Return the kind with places that are moved, if they are far from zero, and never scaled."""
    if (points := kind.view(Points)) is None:
        return replace(kind, classes=())
    values = torch.cat([data.values for data in sets]).double()
    mean, extent = values.mean(0), (values.amax(0) - values.amin(0)).max().clamp(min=1e-300)
    moved = tuple(mean.tolist()) if mean.abs().max() > MAX_OFFSET * extent else (0.0,) * len(points.columns)
    return replace(points, mean=moved, scale=(1.0,) * len(points.columns), classes=())


def usual_noise(populations: Populations, calls: int) -> float:
    """Return half the deviation within the populations, or what the narrowest of them bears."""
    return min(0.5 * populations.spread, _max_noise(populations, calls))


def check_noise(noise: float, populations: Populations, calls: int) -> None:
    """Refuse a noise with which no end can be met.

    Raises:
        UsageError: If it is negative, drowned by rounding, or so large that the last step alone blurs a population.
    """
    check_number("noise", noise, ge=0, lt=math.inf)
    most = _max_noise(populations, calls)
    if noise > most:
        raise UsageError(
            f"{noise:g} is so large that no end can be met: the last of {calls} steps would blur a population whose"
            f" deviation is {_min_std(populations):.3g}",
            remedy=f"Take {_rounded_down(most)} or less, or more steps (--nfe)",
            argument="noise",
        )
    if 0 < noise < 1e-4 * populations.spread:
        raise UsageError(
            f"{noise:g} is so small beside a deviation of {populations.spread:.3g} within the populations that rounding"
            " drowns it",
            remedy="Take 0, which is without noise, or more",
            argument="noise",
        )


def _max_noise(populations: Populations, calls: int) -> float:
    """Return the noise whose last step of a walk is half the least deviation."""
    return 0.5 * _min_std(populations) * calls**0.5


def _rounded_down(value: float) -> str:
    """Write a number by two digits that are no more than it."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.floor(value / unit) * unit:.10g}"


def _min_std(populations: Populations) -> float:
    """Return the deviation of the narrowest population."""
    spreads = [float((x - x.mean(0)).square().mean().sqrt()) for x in populations.states]
    return min((spread for spread in spreads if spread > 0), default=math.inf)
