"""Series in long tables: one row per step, with a column id of the series, a column t of the time, and values."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from feller.core.errors import InputError, error_context
from feller.data.arrays.modality import ID, TIME
from feller.data.files.delimited import Sheet
from feller.data.labels import LABEL_NAMES, encode_labels
from feller.data.loading.raw import RawArrays

TIME_NAMES = ("time", "times", "timepoint", "timestamp", "date", "datetime", "ds", "step", "reading_id")
"""Lower-case names of columns that are probably the time, but are not read as such."""
MISSING = {"", "nan", "na", "null", "none"}
"""Lower-case cell texts of a missing value."""
TOLERANCE = 1e-3
"""Maximum deviation of times from equal spacing, in steps."""
MAX_STEPS = 1e12
"""Number of steps of a series from which its times are refused, before they are counted exactly."""
MAX_GAPS = 50
"""Maximum ratio of steps, including those without a row, to rows of a table."""


def holds_series(sheet: Sheet) -> bool:
    """Return True if a sheet has the columns id and t and values, and an id has several rows."""
    names = sheet.first_row
    series, time = column_named(ID, names), column_named(TIME, names)
    if series is None or time is None or len(names) < 3 or not len(sheet.lines):
        return False
    ids = sheet.cells.column(names.index(series))
    return len(ids.unique()) < len(ids)


def note_on_missing_time(sheet: Sheet, condition: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a note if a sheet has no column t, but a column id whose values have two rows or more on average.

    `condition` are the names of columns that are conditions.
    """
    names = sheet.first_row
    series = column_named(ID, names)
    if series is None or series in condition or column_named(TIME, names) is not None or len(names) < 2:
        return ()
    ids = sheet.cells.column(names.index(series))
    if not 2 <= len(ids.unique()) <= len(ids) / 2:
        return ()
    time = _probable_time(names)
    remedy = "Add it, or use the recipe arrays, for which the rows of each id are steps in their order"
    remedy = remedy if time is None else f"Rename the column {time} to t"
    return (f"the column {series} repeats, but without a column t the rows are not read as series. {remedy}",)


def _probable_time(names: Sequence[str]) -> str | None:
    return next((name for name in names if name.lower() in TIME_NAMES), None)


def column_named(wanted: str, names: Sequence[str]) -> str | None:
    """Return the column of a name, or else the first one that differs from it by upper and lower case only."""
    return wanted if wanted in names else next((name for name in names if name.lower() == wanted), None)


def series_from_sheet(sheet: Sheet, where: str, condition: Sequence[str] = ()) -> RawArrays:
    """Convert a long table to series [n, steps, channels]; steps without a row and empty cells are missing (NaN).

    Args:
        sheet: Text cells with the columns id and t; without t, the rows of each id are consecutive steps. A column of
            labels, and conditions, have one value per series.
        where: Name of the file, for errors.
        condition: Names of the columns that are conditions.

    Raises:
        InputError: If the column id is missing, the time has another name than t, two columns have one name, a cell is
            not a number, times repeat or are not equally spaced, or a label or condition changes within a series.
    """
    with error_context(where):
        sheet.check_distinct(sheet.first_row)
    id_column, time_column = (column_named(name, sheet.first_row) for name in (ID, TIME))
    other_time = None if time_column else _probable_time(sheet.first_row)
    if id_column is None or other_time is not None:
        remedy = f"Name the series in a column id and the time{f', here {other_time},' if other_time else ''} t"
        names = ", ".join(sheet.first_row)
        raise InputError("series in a table with the columns id, t and values", names, remedy, file=where)
    cells = {name: sheet.cells.column(i).to_pandas() for i, name in enumerate(sheet.first_row)}
    labelled = next(filter(None, (column_named(name, sheet.first_row) for name in LABEL_NAMES)), None)
    outside = {id_column, time_column, labelled, *condition}
    columns = tuple(name for name in sheet.first_row if name not in outside)
    if not columns:
        raise InputError("a column of values besides id and t", "none", file=where)
    if not len(sheet.lines):
        raise InputError("at least one row", "only column names", file=where)
    series, ids = pd.factorize(cells[id_column])
    first_rows = np.unique(series, return_index=True)[1]
    if time_column is None:
        times = pd.Series(series).groupby(series).cumcount().to_numpy(dtype=np.float64)
    else:
        times = _numbers(cells[time_column], time_column, sheet, where)
    if np.isnan(times).any():
        raise InputError(
            "a time in each row",
            "an empty cell",
            file=where,
            row=int(sheet.lines[np.isnan(times).argmax()]),
            column="t",
        )
    steps, starts, step = _steps(series, times, sheet, where)
    shape = len(ids), int(steps.max()) + 1
    if shape[0] * shape[1] > MAX_GAPS * len(series):
        raise InputError(
            "times with few gaps", f"{shape[1]:,} steps of {step:g} in a series", "Check the unit of t", file=where
        )
    values = np.full((*shape, len(columns)), np.nan)
    for j, name in enumerate(columns):
        values[series, steps, j] = _numbers(cells[name], name, sheet, where)
    constant = {
        name: _per_series(cells[name], series, first_rows, name, sheet, where) for name in condition if name in cells
    }
    labels, classes = None, ()
    if labelled is not None:
        of_series = _per_series(cells[labelled], series, first_rows, labelled, sheet, where)
        labels, classes = encode_labels(of_series.tolist(), f"{where} ({labelled})")
    return RawArrays(
        values,
        labels,
        classes,
        notes=("there is no column t of the time: the rows of each id are consecutive steps",) * (time_column is None),
        lines=sheet.lines[first_rows],
        names=tuple(f"series {name}" for name in ids),
        condition_columns=constant,
        columns=columns,
        start=float(starts[0]) if (starts == starts[0]).all() else 0.0,
        step=None if time_column is None else step,
        starts=None if time_column is None else starts,
    )


def _numbers(cells: pd.Series, name: str, sheet: Sheet, where: str) -> np.ndarray:
    """Return the numbers in the cells of a column, NaN for a missing one."""
    missing = cells.str.lower().isin(MISSING).to_numpy()
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~missing & ~np.isfinite(numbers)
    if bad.any():
        i = int(bad.argmax())
        raise InputError(
            "a finite number, or an empty cell for a missing one",
            repr(cells.iloc[i][:40]),
            "Correct the cell or remove the column; write times as numbers",
            file=where,
            row=int(sheet.lines[i]),
            column=name,
        )
    return np.where(missing, np.nan, numbers)


def _steps(series: np.ndarray, times: np.ndarray, sheet: Sheet, where: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the step of each row from the start of its series, the start of each series, and the time per step."""
    order = np.lexsort((times, series))
    with np.errstate(over="ignore"):
        gaps, same = np.diff(times[order]), np.diff(series[order]) == 0
    if (repeated := same & (gaps == 0)).any():
        i = int(order[1:][repeated.argmax()])
        raise InputError(
            "one row for each id and t", f"t={times[i]:g} twice", file=where, row=int(sheet.lines[i]), column="t"
        )
    step = _usual_gap(gaps[same]) if same.any() else 1.0
    first = np.full(series.max() + 1, np.inf)
    np.minimum.at(first, series, times)
    with np.errstate(over="ignore"):
        exact = (times - first[series]) / step
    if (far := ~(exact < MAX_STEPS)).any():
        i = int(far.argmax())
        raise InputError(
            f"times with few gaps, here of steps of {step:g}",
            f"t={times[i]:g}",
            "Check the unit of t",
            file=where,
            row=int(sheet.lines[i]),
            column="t",
        )
    uneven = np.abs(exact - np.round(exact)) > TOLERANCE * np.maximum(1, np.abs(exact))
    if uneven.any():
        i = int(uneven.argmax())
        raise InputError(
            f"times with equal spacing, here {step:g}",
            f"t={times[i]:g}, {exact[i]:.3g} steps after the start",
            "Resample the series to a regular grid; steps may be missing",
            file=where,
            row=int(sheet.lines[i]),
            column="t",
        )
    return np.round(exact).astype(np.int64), first, step


def _usual_gap(gaps: np.ndarray) -> float:
    """Return the smallest gap if most gaps are multiples of it; otherwise the median, so that errors name outliers."""
    smallest = float(gaps.min())
    with np.errstate(over="ignore"):
        ratio = gaps / smallest
    ratio = np.minimum(ratio, MAX_STEPS)
    are_multiples = np.abs(ratio - np.round(ratio)) <= TOLERANCE * ratio
    return smallest if are_multiples.mean() > 0.5 else float(np.sort(gaps)[len(gaps) // 2])


def _per_series(
    cells: pd.Series, series: np.ndarray, first_rows: np.ndarray, name: str, sheet: Sheet, where: str
) -> np.ndarray:
    """Return the value of a column for each series; InputError if it changes within a series."""
    texts = cells.to_numpy(dtype=object)
    of_series = texts[first_rows]
    if (changed := texts != of_series[series]).any():
        i = int(changed.argmax())
        raise InputError(
            "one value for all rows of a series",
            f"{of_series[series[i]]!r} and {texts[i]!r}",
            "Correct the cell, or leave it out of the conditions",
            file=where,
            row=int(sheet.lines[i]),
            column=name,
        )
    return of_series
