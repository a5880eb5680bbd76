"""Tables of cells to files and data frames, with the types that those have."""

import pathlib
from dataclasses import replace
from typing import Any

import numpy as np

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.files.delimited import write_parquet
from feller.data.files.dialect import Dialect
from feller.data.loading.raw import FoundTable
from feller.data.tables.categorical import Boolean, Categorical
from feller.data.tables.column import Column, Modelled
from feller.data.tables.dates import Datetime, time_in
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema

_WIDE = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
"""Types that have no word for a missing number; those with a capital letter have."""


def write_cells(table: FoundTable, schema: Schema, path: pathlib.Path, dialect: Dialect = Dialect()) -> None:  # noqa: B008
    """Write a table in the form that the ending names: .parquet, or text in a dialect, in .tsv and .txt with tabs."""
    if path.suffix.lower() == ".parquet":
        return write_parquet(lambda: to_frame(table, schema), path)
    between = "\t" if path.suffix.lower() in (".tsv", ".txt") else "," if dialect.separator == "\t" else ""
    written = replace(dialect, separator=between) if between else dialect
    replace_file(path, written.text([list(table.columns), *table.values.tolist()]))


def to_frame(table: FoundTable, schema: Schema) -> Any:
    """Return a pandas data frame; columns have the types that the schema names, or those of their kinds.

    Raises:
        InputError: If a cell does not fit the type of its column.
    """
    import pandas as pd

    types = {column.name: column for column in schema.columns}
    series = {}
    for name in table.columns:
        column = types[name]
        try:
            series[name] = _series(column, table.column(name))
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(
                f"column {name!r} cannot be written as {column.dtype} ({error}); change its dtype"
            ) from error
    return pd.DataFrame(series)


def _series(column: Column, cells: list[str]) -> Any:
    import pandas as pd

    words = column.words_for_missing if isinstance(column, Modelled) else ()
    gone = np.array([cell in words or not cell for cell in cells], dtype=bool)
    kind = column.dtype or _usual(column)
    if isinstance(column, Numerical) and kind.lower().startswith(("int", "uint", "float")):
        numbers = [None if no else column.form.read(cell) for cell, no in zip(cells, gone, strict=True)]
        whole = kind.lower().startswith(("int", "uint"))
        values = [None if number is None else int(number) if whole else float(number) for number in numbers]
        kind = kind.replace("int", "Int").replace("uInt", "UInt") if kind in _WIDE and gone.any() else kind
        return pd.array(values, dtype=kind) if kind[0] in "IUF" else np.array(_with_nan(values), dtype=kind)
    if isinstance(column, Boolean) and kind.startswith("bool"):
        values = [None if no else cell == column.true for cell, no in zip(cells, gone, strict=True)]
        return pd.array(values, dtype="boolean" if gone.any() else kind)
    if isinstance(column, Datetime) and kind.startswith("datetime64"):
        plain = [None if no else time_in(cell, column.format) for cell, no in zip(cells, gone, strict=True)]
        parsed = pd.to_datetime(pd.Series(plain, dtype=object))
        zone = kind.partition(",")[2].strip(" ]")
        if not zone:
            return parsed.astype(kind)  # pyrefly: ignore
        return parsed.dt.tz_localize("UTC").dt.tz_convert(zone).astype(kind)  # pyrefly: ignore
    plain = [None if no else cell for cell, no in zip(cells, gone, strict=True)]
    if kind == "category":
        known = list(column.own_names) if isinstance(column, Categorical) else None
        return pd.Categorical(plain, categories=known)
    if kind.lower().startswith(("int", "uint", "float")):  # numbers that are words to us
        return pd.to_numeric(pd.Series(plain, dtype=object)).astype(kind)  # pyrefly: ignore
    return pd.Series(plain, dtype=kind)  # pyrefly: ignore


def _with_nan(values: list[Any]) -> list[Any]:
    return [np.nan if value is None else value for value in values]


def _usual(column: Column) -> str:
    """Return the type of a column that came from no data frame."""
    if isinstance(column, Numerical) and column.form.plain:
        return "float64" if column.form.decimals else "int64"
    if isinstance(column, Boolean):
        return "bool" if {column.true.lower(), column.false.lower()} == {"true", "false"} else "object"
    return "object"
