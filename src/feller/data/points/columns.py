"""Columns of numbers: names, order, and what names tell (latitude, torsions)."""

import re
from collections.abc import Collection, Sequence

import numpy as np

from feller.core.errors import InputError
from feller.data.files.plain_text import parse_number
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import RawExamples, RawPoints, RawTable


def check_finite(
    values: np.ndarray,
    where: str,
    columns: tuple[str, ...],
    lines: Sequence[int] | np.ndarray | None = None,
    places: Sequence[int] | None = None,
    empty: Collection[int] = (),
) -> np.ndarray:
    """Return numbers [n, d] if all are finite; InputError names the first that is missing or infinite.

    Args:
        values: The numbers.
        where: Name of the file.
        columns: Names of the columns, or none.
        lines: Line of each row in the file, from 1, where it is not that of the array.
        places: Place of each column in the file, from 0, where it is not that of the array.
        empty: Places of cells in the array, counted row by row, where nothing stands in the file.
    """
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        name = f" ({columns[column]})" if columns else ""
        line = row + 1 if lines is None else lines[row]
        holds = "is empty" if row * values.shape[1] + column in empty else f"holds {values[row, column]}"
        raise InputError(
            f"row {line}, column {(places[column] if places else column) + 1}{name} {holds}",
            expected=f"a finite number; {len(bad)} such in all: drop or fill those rows",
            place=where,
        )
    return values


def check_names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of columns of numbers, if none would be read as a label; InputError if one would."""
    for name in columns:
        if name.lower() in LABEL_NAMES:
            raise InputError(f"a column of numbers cannot be called {name!r}, which names classes", remedy="Rename it")
    return columns


def columns_in_order(raw: RawExamples, columns: tuple[str, ...]) -> np.ndarray:
    """Return points [n, d] with their columns in the order named; without names in the file they are taken as they are.

    InputError if there are others, or none.
    """
    if isinstance(raw, RawTable):
        for name in raw.columns:
            word = next((cell for cell in raw.factorize(name).uniques.to_pylist() if parse_number(cell) is None), None)
            if word is not None:
                comma = word.count(",") == 1 and parse_number(word.replace(",", ".")) is not None
                helps = f"; numbers are written with a point, {word.replace(',', '.')}" if comma else ""
                raise InputError(f"numbers in columns {', '.join(columns)}", f"{word[:40]!r} in column {name!r}{helps}")
    if not isinstance(raw, RawPoints):
        raise InputError(f"points with columns {', '.join(columns)}", raw.description)
    values, names = raw.values, raw.columns or columns
    if len(names) != values.shape[1] or set(names) != set(columns):
        got = ", ".join(raw.columns) or f"{values.shape[1]} without names"
        raise InputError(f"the columns {', '.join(columns)}", got)
    place = {name: i for i, name in enumerate(names)}
    return np.ascontiguousarray(values[:, [place[name] for name in columns]], dtype=np.float64)


LATITUDE = re.compile(r"lat(itude)?", re.IGNORECASE)
LONGITUDE = re.compile(r"(lon|lng|long)(itude)?", re.IGNORECASE)
BACKBONE = ("phi", "psi")
NUCLEIC = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
TORSION = re.compile(r"phi|psi|omega|chi[1-5]?|alpha|beta|gamma|delta|epsilon|zeta|eta|theta", re.IGNORECASE)
UNIT = re.compile(r"[_ ]\(?(deg|rad|degrees|radians)\)?$", re.IGNORECASE)
"""End of a name that says in what a column is measured."""


def angle_unit(name: str) -> str | None:
    """Return `deg` or `rad` where the end of a name says so."""
    found = UNIT.search(name)
    return found[1][:3].lower() if found else None


def _bare(name: str) -> str:
    return UNIT.sub("", name).strip().lower()


def coordinate_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are a latitude and a longitude, in their order; none unless there is one of each."""
    found = [[name for name in names if kind.fullmatch(_bare(name))] for kind in (LATITUDE, LONGITUDE)]
    if [len(columns) for columns in found] != [1, 1]:
        return ()
    return tuple(name for name in names if name in (*found[0], *found[1]))


def latitude_among(names: Sequence[str]) -> int:
    """Return which of two columns is the latitude: the first, unless a name says otherwise."""
    first, second = map(_bare, names)
    return 1 if LATITUDE.fullmatch(second) or LONGITUDE.fullmatch(first) else 0


def torsions_among(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are torsion angles: those of a protein or of a nucleic acid, or none.

    Letters like alpha mean many things, so phi and psi, or alpha to zeta, must all be there.
    """
    bare = {_bare(name) for name in names}
    if not (bare.issuperset(BACKBONE) or bare.issuperset(NUCLEIC)):
        return ()
    return tuple(name for name in names if TORSION.fullmatch(_bare(name)))


def all_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Choose no column before others: all are numbers, and complete."""
    return ()
