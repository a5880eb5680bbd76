"""Tables of cells from and to files and data frames."""

import json
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
from pyarrow import parquet

from feller.core.errors import InputError
from feller.core.serialization import replace_file
from feller.data.files.delimited import Sheet, check_header, read_parquet, read_sheet, text_of, write_parquet
from feller.data.files.plain_text import all_numbers, parse_number
from feller.data.labels import LABEL_NAMES
from feller.data.loading.raw import TEXT, Dialect, RawTable, text_array
from feller.data.tables.column import Boolean, Categorical, Column, ModelledColumn
from feller.data.tables.dates import Datetime, read_times
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema

_ARROW: Any = pyarrow.compute  # whose functions are made as it is imported
_WIDE = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
"""Types that have no word for a missing number; those with a capital letter have."""


def write_cells(table: RawTable, schema: Schema, path: pathlib.Path, dialect: Dialect = Dialect()) -> None:  # noqa: B008
    """Write a table in the form that the ending names: .parquet, or text in a dialect, in .tsv and .txt with tabs."""
    if path.suffix.lower() == ".parquet":
        return write_parquet(lambda: to_frame(table, schema), path)
    between = "\t" if path.suffix.lower() in (".tsv", ".txt") else "," if dialect.separator == "\t" else ""
    replace_file(
        path, text_of(table.columns, table.values, replace(dialect, separator=between) if between else dialect)
    )


def to_frame(table: RawTable, schema: Schema) -> pd.DataFrame:
    """Return a data frame; columns have the types that the schema names, or those of their kinds.

    InputError if a cell does not fit the type of its column.
    """
    kinds = {column.name: column for column in schema.columns}
    series = {}
    for name, cells in zip(table.columns, table.values.columns, strict=True):
        column = kinds[name]
        try:
            series[name] = _series(column, cells.combine_chunks())
        except (ValueError, TypeError, OverflowError, pyarrow.ArrowException) as error:
            raise InputError(
                f"cannot be written as {column.dtype} ({error})", remedy="Change its dtype", column=name
            ) from error
    return pd.DataFrame(series)


def _series(column: Column, cells: pyarrow.Array) -> Any:
    words = column.words_for_missing if isinstance(column, ModelledColumn) else ()
    gone = np.asarray(_ARROW.is_in(cells, text_array(["", *words])))
    kind, _, said = (column.dtype or _usual(column)).partition(" {")
    listed = json.loads("{" + said) if said else {}
    if kind == "category":
        return _category(column, cells, gone, listed)
    if kind == "object" and listed:
        return _objects(cells, gone, listed)
    if isinstance(column, Numerical) and kind.lower().startswith(("int", "uint", "float")):
        return _numbers(column, cells, gone, kind)
    if isinstance(column, Boolean) and kind.startswith("bool"):
        values = np.asarray(_ARROW.equal(cells, column.true))
        return pd.arrays.BooleanArray(values, gone) if gone.any() or kind == "boolean" else values
    if isinstance(column, Datetime) and kind.startswith("datetime64"):
        times = read_times(cells, column.format)
        times[gone] = np.datetime64("NaT")
        parsed, zone = pd.Series(times), kind.partition(",")[2].strip(" ]")
        if not zone:
            return parsed.astype(kind)  # pyrefly: ignore
        return parsed.dt.tz_localize("UTC").dt.tz_convert(zone).astype(kind)  # pyrefly: ignore
    plain = _ARROW.if_else(pyarrow.array(gone), pyarrow.scalar(None, TEXT), cells)
    if kind.lower().startswith(("int", "uint", "float")):  # numbers that are words to us
        return pd.to_numeric(pd.Series(plain.to_pandas(), dtype=object)).astype(kind)  # pyrefly: ignore
    return pd.Series(plain.to_numpy(zero_copy_only=False), dtype=column.dtype and kind)  # pyrefly: ignore


def _numbers(column: Numerical, cells: pyarrow.Array, gone: np.ndarray, kind: str) -> Any:
    """Return numbers without a detour by floats, which would lose digits of large whole ones."""
    form = column.form
    read = form.parse(cells)
    gone = gone | ~read.valid
    units = np.where(gone, 0, read.units)
    if kind.lower().startswith(("int", "uint")):
        whole, left = np.divmod(units, 10**form.decimals)
        whole = whole + (left > 0) * (units < 0)  # towards zero
        if gone.any() or kind not in _WIDE:
            named = kind.replace("uint", "UInt") if kind.startswith("u") else kind.replace("int", "Int")
            return pd.Series(pd.arrays.IntegerArray(whole, gone)).astype(named)  # pyrefly: ignore
        if (whole.astype(kind) != whole).any():
            raise OverflowError("a number is too large")
        return whole.astype(kind)
    values = np.asarray(NumberFormat(form.decimals).texts(units).cast(pyarrow.float64()))
    values = np.where(gone, np.nan, values)
    return pd.array(pd.array(values), dtype=kind) if kind[0] == "F" else values.astype(kind)  # pyrefly: ignore


def _usual(column: Column) -> str:
    """Return the type of a column that came from no data frame."""
    if isinstance(column, Numerical) and column.form.plain:
        return "float64" if column.form.decimals else "int64"
    if isinstance(column, Boolean):
        return "bool" if {column.true.lower(), column.false.lower()} == {"true", "false"} else "object"
    return "object"


SNIFF_ROWS = 200
"""Rows that are looked at, to tell words from numbers."""
EXACT = 2**53 - 1
"""Whole numbers beyond which floats leave some out."""
BLANK = ("", "na", "n/a", "nan", "null", "none", "?", "-", ".")
"""Cells, in small letters, that are neither words nor numbers."""


def open_sheet(path: pathlib.Path) -> Sheet | None:
    """Read .csv, .tsv, .txt, also packed as .gz, or .parquet; None where there is no row.

    InputError if the file is damaged, or rows differ in length.
    """
    if path.suffix.lower() != ".parquet":
        return read_sheet(path)
    return sheet_of(_restore_integers(read_parquet(path), path), begin=2)


def sheet_of(frame: pd.DataFrame, begin: int = 1, *, blanks: bool = False) -> Sheet:
    """Return the cells of a data frame below the names of its columns; rows are numbered from `begin`."""
    columns = [text_cells(frame.iloc[:, j], blanks=blanks) for j in range(frame.shape[1])]
    cells = pyarrow.Table.from_arrays(columns, names=[str(j) for j in range(len(columns))])
    names = [str(name).strip() for name in frame.columns]
    lines = np.arange(len(frame)) + begin
    return Sheet(names, cells, lines, dtypes=tuple(_type_of(frame.iloc[:, j]) for j in range(frame.shape[1])))


MOST_LISTED = 1_000
"""Categories, or cells of other types than words, that the type of a column lists."""
PLAIN = (bool, int, float, str)
"""Types of cells that are kept."""


def _type_of(column: pd.Series) -> str:
    """Return the type of a column as pandas writes it; behind it what that leaves out, as JSON.

    Of categories, where they are not the words of the column by the alphabet, all of them and whether they have an
    order; of objects that are no words, which cells are of which type. It follows from the cells, so that no private
    fit may look at more than the type itself.
    """
    kind = str(column.dtype)
    if isinstance(column.dtype, pd.CategoricalDtype):
        own, ordered = column.cat.categories.tolist(), bool(column.cat.ordered)
        words = [own[code] for code in np.unique(column.cat.codes) if code >= 0]
        plain = not ordered and own == words and all(isinstance(one, str) for one in own) and own == sorted(own)
        if plain or len(own) > MOST_LISTED or not all(type(one) in PLAIN for one in own):
            return kind
        return f"{kind} {json.dumps({'categories': own, 'ordered': ordered})}"
    if kind == "object":
        there = column[column.notna()].tolist()
        types = {type(one) for one in there}
        if len(types) == 1 and types < {bool, int, float}:
            return f"{kind} {json.dumps({'all': types.pop().__name__})}"
        cells = {(type(one), one) for one in there if type(one) in PLAIN and type(one) is not str}
        if cells and len(cells) <= MOST_LISTED:
            of = {
                name: sorted(_written(one) for t, one in cells if t.__name__ == name)
                for name in ("bool", "int", "float")
            }
            return f"{kind} {json.dumps({name: own for name, own in of.items() if own})}"
    return kind


def _category(column: Column, cells: pyarrow.Array, gone: np.ndarray, listed: dict[str, Any]) -> Any:
    """Return a categorical column: categories as listed, or words as the schema has them; others stand at the end."""
    if not listed and isinstance(column, Numerical):
        return pd.Categorical(_numbers(column, cells, gone, "float64" if column.form.decimals else "int64"))
    plain = _ARROW.if_else(pyarrow.array(gone), pyarrow.scalar(None, TEXT), cells)
    if listed:
        own = listed["categories"]
    else:
        own = (
            list(column.value_names)
            if isinstance(column, Categorical | Boolean)
            else sorted(cells.filter(pyarrow.array(~gone)).unique().to_pylist())
        )
        if isinstance(column, Categorical) and column.other is not None:
            own.remove(column.other)
    words = [_written(one) for one in own]
    more = [word for word in _ARROW.unique(plain.drop_null()).to_pylist() if word not in words]
    codes = np.asarray(_ARROW.index_in(plain, text_array([*words, *more])).fill_null(-1))
    categories = pd.CategoricalDtype([*own, *more], ordered=listed.get("ordered", False))
    return pd.Categorical.from_codes(codes, dtype=categories)  # pyrefly: ignore


def _objects(cells: pyarrow.Array, gone: np.ndarray, listed: dict[str, Any]) -> pd.Series:
    """Return objects, all of one type, or those that are listed by their types; others are words."""
    types: dict[str, Callable[[str], Any]] = {"bool": lambda word: word == "True", "int": int, "float": float}
    if one := listed.get("all"):
        known = {word: types[one](word) for word in _ARROW.unique(cells.filter(pyarrow.array(~gone))).to_pylist()}
    else:
        known = {word: types[name](word) for name, words in listed.items() for word in words}
    found = [None if lacks else known.get(word, word) for word, lacks in zip(cells.to_pylist(), gone, strict=True)]
    return pd.Series(found, dtype=object)


def load_cells(path: pathlib.Path) -> RawTable:
    """Read all cells of .csv, .tsv, .txt, also packed as .gz, or of .parquet, below a header.

    InputError if rows differ in length, columns have no names or the same, or nothing is there.
    """
    return table_of(open_sheet(path), str(path))


def table_of(sheet: Sheet | None, where: str) -> RawTable:
    """Take the first row of a sheet for names; InputError if columns have no names or the same, or nothing is there."""
    if sheet is None:
        raise InputError(expected="a table, the file is empty", place=where)
    names = sheet.first_row
    if not sheet.dtypes and all_numbers(names) and any(names):
        raise InputError("names of the columns in the first row", ", ".join(names[:3]), "Add them", place=where)
    check_header(names, where)
    if not len(sheet.lines) or not names:
        rows = f"rows and columns; found {len(sheet.lines)} x {len(names)}"
        raise InputError(expected=f"{rows if sheet.dtypes else 'rows below the header, there are none'}", place=where)
    table = sheet.cells.rename_columns(names)
    return RawTable(table, columns=tuple(names), lines=sheet.lines, dialect=sheet.dialect, dtypes=sheet.dtypes)


def from_frame(frame: pd.DataFrame, where: str = "the data frame") -> RawTable:
    """Read all cells of a data frame, whose types are kept.

    InputError if columns have no names or the same, or nothing is there.
    """
    return table_of(sheet_of(frame), where)


def _restore_integers(frame: pd.DataFrame, path: pathlib.Path) -> pd.DataFrame:
    """Return a frame whose large whole numbers kept all digits, though a missing one turned their column to floats."""
    kinds = {column.name: str(column.type) for column in parquet.read_schema(path)}
    held = [name for name, kind in kinds.items() if name in frame.columns and kind.lstrip("u").startswith("int")]
    lossy = [name for name in held if str(frame[name].dtype) == "float64" and bool((frame[name].abs() > EXACT).any())]
    exact = parquet.read_table(path, columns=lossy).to_pydict() if lossy else {}
    whole = {name: pd.array(exact[name], dtype="UInt64" if kinds[name].startswith("u") else "Int64") for name in lossy}
    return frame.assign(**whole)


def text_cells(column: Any, *, blanks: bool = False) -> pyarrow.Array:
    """Return the cells of a column of a frame, without blanks around them unless asked; empty where there is none.

    Each is written by itself, as its column's type says: how one cell looks tells nothing of another.
    """
    gone = pyarrow.array(column.isna().to_numpy(dtype=bool))
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        words = text_cells(pd.Series(column.cat.categories.astype(object)))
        written = words.take(pyarrow.array(column.cat.codes.to_numpy(), mask=np.asarray(gone)))
    elif types.is_datetime64_any_dtype(column):
        written = _times(column)
    elif types.is_bool_dtype(column.dtype):
        written = _ARROW.if_else(pyarrow.array(column.fillna(False).to_numpy(dtype=bool)), "True", "False").cast(TEXT)
    elif types.is_integer_dtype(column.dtype):
        written = pyarrow.array(column.fillna(0).to_numpy()).cast(TEXT)
    elif types.is_float_dtype(column.dtype):
        written = _floats(column.to_numpy(dtype=np.float64, na_value=np.nan))
    elif isinstance(column.dtype, pd.StringDtype):
        written = pyarrow.array(column, from_pandas=True).cast(TEXT)
        written = written.combine_chunks() if isinstance(written, pyarrow.ChunkedArray) else written
    else:
        values = column.astype(object).tolist()
        for row, value in enumerate(values, 1):
            if isinstance(value, list | tuple | dict | set | np.ndarray):
                raise InputError(
                    "a number, a word, a date or True or False in each cell",
                    f"a {type(value).__name__}",
                    "Make several columns of it, or a word",
                    row=row,
                    column=str(column.name),
                )
        written = text_array([_written(value) for value in values])
    written = written if blanks else _ARROW.utf8_trim_whitespace(written)
    return _ARROW.if_else(gone, "", written.fill_null("")).cast(TEXT)


def _times(column: Any) -> pyarrow.Array:
    """Write times as short as each may be."""
    plain = column.dt.tz_convert("UTC").dt.tz_localize(None) if getattr(column.dt, "tz", None) else column
    texts = text_array(np.datetime_as_string(plain.to_numpy().astype("M8[us]"), unit="us").tolist())
    return _ARROW.replace_substring_regex(_ARROW.replace_substring(texts, "T", " "), r"( 00:00:00)?\.000000$", "")


def _floats(values: np.ndarray) -> pyarrow.Array:
    """Write numbers as Python does; whole ones alike in each type, since one missing cell makes floats of integers."""
    whole = (np.floor(values) == values) & (np.abs(values) < EXACT) & ~((values == 0) & np.signbit(values))
    fixed = (np.abs(values) >= FIXED[0]) & (np.abs(values) < FIXED[1]) & ~whole
    digits = pyarrow.array(np.where(whole, values, 0).astype(np.int64)).cast(TEXT)
    written = _ARROW.if_else(pyarrow.array(whole), digits, pyarrow.array(np.where(fixed, values, 0.5)).cast(TEXT))
    odd = ~(whole | fixed)
    if odd.any():
        texts = text_array([_written(value) for value in values[odd].tolist()])
        written = _ARROW.replace_with_mask(written, pyarrow.array(odd), texts)
    return written


FIXED = (1e-3, 1e9)
"""Numbers between which Arrow writes them as Python does, without an exponent."""


def _written(value: Any) -> str:
    """Write what is no time; a whole number alike in each type, since one missing cell turns integers into floats."""
    if isinstance(value, float | np.floating):
        return repr(float(value)).removesuffix(".0")
    return str(value)


def holds_words(sheet: Sheet, among: tuple[str, ...] = ()) -> bool:
    """Tell whether a table has a column, but for the label, whose cells are words for the most part.

    Only those `among` some names count, where there are any.

    Misspelt numbers make no column of words; nor does a table have one if its first row has no names.
    """
    names, rows = sheet.first_row, sheet.head(SNIFF_ROWS)
    if all_numbers(names):
        return False
    counted = [j for j, name in enumerate(names) if name.lower() not in LABEL_NAMES and (not among or name in among)]
    return any(_are_words([row[j] for row in rows]) for j in counted)


def _are_words(cells: list[str]) -> bool:
    there = [cell for cell in cells if cell.lower() not in BLANK]
    return 2 * sum(parse_number(cell.replace("_", "")) is None for cell in there) > len(there)
