"""What a file holds, before a modality gives it a meaning."""

import contextlib
import math
import pathlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from feller.errors import InputError
from feller.record import nearest
from feller.tree import Given

LABEL_NAMES = ("label", "class")
"""Names of the column that becomes the condition."""


@dataclass(frozen=True, eq=False)
class Found:
    """Numbers of a file, with what it says about them."""

    values: np.ndarray
    """Points: float64 [n, d]. Pictures: uint8 [n, h, w, c]. Backbones: float64 [n, L, 4, 3], padded with zeros. Texts:
    strings [n]. Crystals: fractional coordinates, float64 [n, L, 3], padded with zeros. Molecules: the same in Å."""
    labels: np.ndarray | None = None
    """Position in `classes` of each example, [n]."""
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Names of the columns of points; empty where the file has none."""
    levels: int | None = None
    """Value of white in pictures; None where the file does not say."""
    notes: tuple[str, ...] = ()
    """What was decided on the way, for people."""
    lines: np.ndarray | None = None
    """Line of each row in its file, from 1, [n]; None where it is that of the array."""
    lengths: np.ndarray | None = None
    """Residues of each backbone, [n]; None for other data."""
    residues: np.ndarray | None = None
    """Amino acids of each backbone, as in `residues`, -1 where one is not known, [n, L]; None where none is."""
    documents: bool | None = None
    """Whether each text is an example of its own, rather than one whose parts are; None for other data."""
    tokens: np.ndarray | None = None
    """Symbols of texts that a model wrote, [n, l], where the file keeps them."""
    atoms: np.ndarray | None = None
    """Atomic numbers of each structure, 0 behind its end, [n, L]; `values` are their places. None for other data."""
    lattice: np.ndarray | None = None
    """Cell of each crystal, a, b, c in Å and alpha, beta, gamma in degrees, [n, 6]; None for other data."""

    def row(self, i: int) -> int:
        """Return the number under which a person finds a row in the file."""
        return i + 1 if self.lines is None else int(self.lines[i])


@contextlib.contextmanager
def about(source: str | pathlib.Path) -> Generator[None, None, None]:
    """Put the name of the data before an error that does not name them."""
    try:
        yield
    except InputError as error:
        if str(source) in str(error):
            raise
        raise InputError(f"{source}: {error}") from error


def number(cell: str) -> float | None:
    """Return a number, not-a-number for an empty cell, or None for a word."""
    try:
        return None if "_" in cell else float(cell or "nan")
    except ValueError:
        return None


def all_numbers(cells: Iterable[str]) -> bool:
    """Tell whether no cell is a word; such a row is not one of names."""
    return all(number(cell) is not None for cell in cells)


def check_finite(
    values: np.ndarray,
    where: str,
    columns: tuple[str, ...],
    lines: Sequence[int] | np.ndarray | None = None,
    places: Sequence[int] | None = None,
) -> np.ndarray:
    """Return numbers [n, d] if all are finite.

    Args:
        values: The numbers.
        where: Name of the file.
        columns: Names of the columns, or none.
        lines: Line of each row in the file, from 1, where it is not that of the array.
        places: Place of each column in the file, from 0, where it is not that of the array.

    Raises:
        InputError: If one is missing or infinite; says which.
    """
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        name = f" ({columns[column]})" if columns else ""
        line = row + 1 if lines is None else lines[row]
        raise InputError(
            f"{where}: row {line}, column {(places[column] if places else column) + 1}{name}"
            f" holds {values[row, column]}, expected a finite number; {len(bad)} such in all: drop or fill those rows"
        )
    return values


def check_names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of columns of numbers, if none would be read as a label.

    Raises:
        InputError: If one would.
    """
    for name in columns:
        if name.lower() in LABEL_NAMES:
            raise InputError(f"a column of numbers cannot be called {name!r}, which names classes; rename it")
    return columns


def arrange(found: Found, columns: tuple[str, ...]) -> np.ndarray:
    """Return points [n, d] with their columns in the order named; without names in the file they are taken as they are.

    Raises:
        InputError: If there are others, or none.
    """
    values = found.values
    if values.ndim != 2:
        raise InputError(f"expected points with columns {', '.join(columns)}, got {kind(found)}")
    names = found.columns or columns
    if len(names) != values.shape[1] or set(names) != set(columns):
        got = ", ".join(found.columns) or f"{values.shape[1]} without names"
        raise InputError(f"expected the columns {', '.join(columns)}, got {got}")
    return np.ascontiguousarray(values[:, [names.index(name) for name in columns]], dtype=np.float64)


def kind(found: Found) -> str:
    """Say what a file holds."""
    if found.documents is not None:
        return "texts"
    if found.lattice is not None:
        return "crystals"
    if found.atoms is not None:
        return "molecules"
    if found.values.ndim == 2:
        return f"points with {found.values.shape[1]} columns"
    return "pictures" if found.lengths is None else "backbones"


def _order(name: str) -> tuple[float, str]:
    """Put whole numbers first, by size, then words, by alphabet."""
    return (float(name) if name.removeprefix("-").isdecimal() else math.inf, name)


def classify(labels: list[str], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn the labels of examples into positions and the names of classes.

    Raises:
        InputError: If nearly every example has its own.
    """
    names = sorted(set(labels), key=_order)
    if len(names) > 100 and len(names) > len(labels) / 2:
        raise InputError(
            f"{where}: {len(names)} different labels for {len(labels)} examples; a label names few classes:"
            " give that column another name, or leave it out"
        )
    position = {name: i for i, name in enumerate(names)}
    return np.array([position[label] for label in labels]), tuple(names)


def relabel(found: Found, classes: tuple[str, ...]) -> Given:
    """Number the labels of a file by the classes of a modality; nothing where either has none.

    Raises:
        InputError: If the file has a class that the modality does not know.
    """
    if found.labels is None or not classes:
        return {}
    unknown = [found.classes[i] for i in np.unique(found.labels) if found.classes[i] not in classes]
    if unknown:
        raise InputError(f"there is no class {unknown[0]!r} here: {nearest(unknown[0], list(classes))}")
    position = {name: i for i, name in enumerate(classes)}
    lookup = np.array([position.get(name, -1) for name in found.classes], dtype=np.int64)
    return {"label": torch.from_numpy(lookup[found.labels])}
