"""Checks of numeric columns, and recognition of quantities by column name: latitude, longitude, torsion angles."""

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
    """Return `values` [n, d] if all are finite; else raise an InputError with the first NaN or infinite value.

    Args:
        values: Numbers to check.
        where: Name of the file.
        columns: Column names; empty if there are none.
        lines: Line number of each row in the file, from 1; by default the row number in the array.
        places: Index of each column in the file, from 0; by default the index in the array.
        empty: Flat indices into `values` of the cells that are empty in the file.
    """
    nonfinite = np.argwhere(~np.isfinite(values))
    if len(nonfinite):
        row, column = nonfinite[0]
        name = f"{columns[column]} " if columns else ""
        line = row + 1 if lines is None else lines[row]
        finding = "is empty" if row * values.shape[1] + column in empty else f"is {values[row, column]}"
        raise InputError(
            f"{name}{finding}",
            expected=f"finite numbers ({len(nonfinite)} of {values.size} cells are missing or infinite)",
            remedy="Fill or remove those rows",
            place=where,
            row=int(line),
            column=int(places[column] if places else column) + 1,
        )
    return values


def check_names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the column names; InputError if a numeric column has the name of a label column."""
    for name in columns:
        if name.lower() in LABEL_NAMES:
            raise InputError(
                f"{name!r} is reserved for class labels and cannot name a numeric column", remedy="Rename the column"
            )
    return columns


def columns_in_order(raw: RawExamples, columns: tuple[str, ...]) -> np.ndarray:
    """Return the points of `raw`, [n, d], with columns in the order of `columns`.

    Columns are matched by name if the file has column names, else by position.

    InputError if the file has other columns.
    """
    if isinstance(raw, RawTable):
        for name in raw.columns:
            text = next((cell for cell in raw.factorize(name).uniques.to_pylist() if parse_number(cell) is None), None)
            if text is not None:
                has_comma = text.count(",") == 1 and parse_number(text.replace(",", ".")) is not None
                hint = f"; write decimals with a point, {text.replace(',', '.')}" if has_comma else ""
                raise InputError(f"numbers in columns {', '.join(columns)}", f"{text[:40]!r} in column {name!r}{hint}")
    if not isinstance(raw, RawPoints):
        raise InputError(f"points with columns {', '.join(columns)}", raw.description)
    values, names = raw.values, raw.columns or columns
    if len(names) != values.shape[1] or set(names) != set(columns):
        found = ", ".join(raw.columns) or f"{values.shape[1]} unnamed columns"
        raise InputError(f"the columns {', '.join(columns)}", found)
    position = {name: i for i, name in enumerate(names)}
    return np.ascontiguousarray(values[:, [position[name] for name in columns]], dtype=np.float64)


LATITUDE = re.compile(r"lat(itude)?", re.IGNORECASE)
LONGITUDE = re.compile(r"(lon|lng|long)(itude)?", re.IGNORECASE)
BACKBONE = ("phi", "psi")
NUCLEIC = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
TORSION = re.compile(r"phi|psi|omega|chi[1-5]?|alpha|beta|gamma|delta|epsilon|zeta|eta|theta", re.IGNORECASE)
UNIT = re.compile(r"[_ ]\(?(deg|rad|degrees|radians)\)?$", re.IGNORECASE)
"""Pattern of the unit suffix of a column name."""


def angle_unit(name: str) -> str | None:
    """Return the angle unit in the suffix of a column name, `deg` or `rad`; None without a unit."""
    match = UNIT.search(name)
    return match[1][:3].lower() if match else None


def _bare(name: str) -> str:
    return UNIT.sub("", name).strip().lower()


def coordinate_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the latitude and the longitude column, in file order; empty unless there is one of each."""
    matches = [[name for name in names if pattern.fullmatch(_bare(name))] for pattern in (LATITUDE, LONGITUDE)]
    if [len(columns) for columns in matches] != [1, 1]:
        return ()
    return tuple(name for name in names if name in (*matches[0], *matches[1]))


def latitude_among(names: Sequence[str]) -> int:
    """Return the index of the latitude among two columns: 0, unless a column name shows that it is 1."""
    first, second = map(_bare, names)
    return 1 if LATITUDE.fullmatch(second) or LONGITUDE.fullmatch(first) else 0


def torsions_among(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns with torsion angles of a protein or nucleic acid; empty if there are none.

    Greek letters are ambiguous, so the columns count only if phi and psi, or all of alpha to zeta, are present.
    """
    bare_names = {_bare(name) for name in names}
    if not (bare_names.issuperset(BACKBONE) or bare_names.issuperset(NUCLEIC)):
        return ()
    return tuple(name for name in names if TORSION.fullmatch(_bare(name)))


def all_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return an empty selection: all columns are read, and none may have missing cells."""
    return ()
