"""Reading and writing of table cells in files and data frames."""

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
from pyarrow import types as arrow_types

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

_ARROW: Any = pyarrow.compute  # its functions are created at import
_WIDE = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
"""NumPy integer dtypes, which cannot represent missing values; the pandas dtypes with capital letters can."""


def write_cells(table: RawTable, schema: Schema, path: pathlib.Path, dialect: Dialect = Dialect()) -> None:  # noqa: B008
    """Write a table to a .parquet file, or to a text file in the given dialect; .tsv and .txt files always use tabs."""
    if path.suffix.lower() == ".parquet":
        return write_parquet(lambda: to_frame(table, schema), path)
    replace_file(path, text_of(table.columns, table.values, dialect_for(path, dialect)))


def dialect_for(path: pathlib.Path, dialect: Dialect) -> Dialect:
    """Return the dialect of a text file that is written: `dialect`, but with tabs in .tsv and .txt files only."""
    if path.suffix.lower() in (".tsv", ".txt"):
        return replace(dialect, separator="\t")
    return replace(dialect, separator=",") if dialect.separator == "\t" else dialect


def to_frame(table: RawTable, schema: Schema) -> pd.DataFrame:
    """Return a table as a data frame, with the dtypes of the schema or else the default dtypes of the column types.

    InputError if a cell does not fit the dtype of its column.
    """
    series = {}
    for name, cells in zip(table.columns, table.values.columns, strict=True):
        column = schema.text_forms[name]
        try:
            series[name] = _series(column, cells.combine_chunks())
        except (ValueError, TypeError, OverflowError, pyarrow.ArrowException) as error:
            raise InputError(
                f"cannot be written as {column.dtype} ({error})", remedy="Change the dtype in the schema", column=name
            ) from error
    return pd.DataFrame(series)


def _series(column: Column, cells: pyarrow.Array) -> Any:
    missing_words = column.words_for_missing if isinstance(column, ModelledColumn) else ()
    is_missing = np.asarray(_ARROW.is_in(cells, text_array(["", *missing_words])))
    dtype, _, json_text = (column.dtype or _usual(column)).partition(" {")
    metadata = json.loads("{" + json_text) if json_text else {}
    if dtype == "category":
        return _category(column, cells, is_missing, metadata)
    if dtype == "object" and metadata:
        return _objects(cells, is_missing, metadata)
    if isinstance(column, Numerical) and dtype.lower().startswith(("int", "uint", "float")):
        return _numbers(column, cells, is_missing, dtype)
    if isinstance(column, Boolean) and dtype.startswith("bool"):
        values = np.asarray(_ARROW.equal(cells, column.true))
        return pd.arrays.BooleanArray(values, is_missing) if is_missing.any() or dtype == "boolean" else values
    if isinstance(column, Datetime) and dtype.startswith("datetime64"):
        times = read_times(cells, column.format)
        times[is_missing] = np.datetime64("NaT")
        parsed, zone = pd.Series(times), dtype.partition(",")[2].strip(" ]")
        if not zone:
            return parsed.astype(dtype)  # pyrefly: ignore
        return parsed.dt.tz_localize("UTC").dt.tz_convert(zone).astype(dtype)  # pyrefly: ignore
    nullable = _ARROW.if_else(pyarrow.array(is_missing), pyarrow.scalar(None, TEXT), cells)
    if dtype.lower().startswith(("int", "uint", "float")):  # numeric dtypes of categorical columns
        return pd.to_numeric(pd.Series(nullable.to_pandas(), dtype=object)).astype(dtype)  # pyrefly: ignore
    return pd.Series(nullable.to_numpy(zero_copy_only=False), dtype=column.dtype and dtype)  # pyrefly: ignore


def _numbers(column: Numerical, cells: pyarrow.Array, is_missing: np.ndarray, dtype: str) -> Any:
    """Return the numbers of a column as an array of the given dtype.

    Integer types are computed from integers, because floats would lose digits of large numbers.
    """
    form = column.form
    parsed = form.parse(cells)
    is_missing = is_missing | ~parsed.valid
    units = np.where(is_missing, 0, parsed.units)
    if dtype.lower().startswith(("int", "uint")):
        integers, remainder = np.divmod(units, 10**form.decimals)
        integers = integers + (remainder > 0) * (units < 0)  # round towards zero
        if is_missing.any() or dtype not in _WIDE:
            nullable_dtype = dtype.replace("uint", "UInt") if dtype.startswith("u") else dtype.replace("int", "Int")
            return pd.Series(pd.arrays.IntegerArray(integers, is_missing)).astype(nullable_dtype)  # pyrefly: ignore
        if (integers.astype(dtype) != integers).any():
            raise OverflowError("a number is too large")
        return integers.astype(dtype)
    values = np.asarray(NumberFormat(form.decimals).texts(units).cast(pyarrow.float64()))
    values = np.where(is_missing, np.nan, values)
    return pd.array(pd.array(values), dtype=dtype) if dtype[0] == "F" else values.astype(dtype)  # pyrefly: ignore


def _usual(column: Column) -> str:
    """Return the dtype that a column gets in a data frame if the schema does not record one."""
    if isinstance(column, Numerical) and column.form.plain:
        return "float64" if column.form.decimals else "int64"
    if isinstance(column, Boolean):
        return "bool" if {column.true.lower(), column.false.lower()} == {"true", "false"} else "object"
    return "object"


SNIFF_ROWS = 200
"""Number of rows from which columns of text and of numbers are distinguished."""
EXACT = 2**53 - 1
"""Largest integer up to which float64 represents all integers exactly."""
BLANK = ("", "na", "n/a", "nan", "null", "none", "?", "-", ".")
"""Cells, in lower case, that count neither as text nor as numbers."""


def open_sheet(path: pathlib.Path) -> Sheet | None:
    """Read a .csv, .tsv or .txt file (optionally .gz) or a .parquet file; return None if it has no rows.

    InputError if the file is damaged, or rows differ in the number of cells.
    """
    if path.suffix.lower() != ".parquet":
        return read_sheet(path)
    check_flat(path)
    return sheet_of(_restore_integers(read_parquet(path), path), begin=2)


_UNREADABLE: tuple[Callable[[Any], bool], ...] = (
    arrow_types.is_nested,
    arrow_types.is_binary,
    arrow_types.is_large_binary,
)


def check_flat(path: pathlib.Path) -> None:
    """Raise an InputError if a column of a .parquet file has nested or binary values."""
    try:
        columns = parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError):
        return  # reading the file raises an error with more details
    for column in columns:
        if any(is_kind(column.type) for is_kind in _UNREADABLE):
            raise InputError(
                "a number, string, date or Boolean in each cell",
                str(column.type),
                "Split the values into several columns, convert them to strings, or leave out the column",
                file=path,
                column=column.name,
            )


def sheet_of(frame: pd.DataFrame, begin: int = 1, *, blanks: bool = False) -> Sheet:
    """Return the cells and column names of a data frame as a sheet."""
    columns = [text_cells(frame.iloc[:, j], blanks=blanks) for j in range(frame.shape[1])]
    cells = pyarrow.Table.from_arrays(columns, names=[str(j) for j in range(len(columns))])
    names = [str(name).strip() for name in frame.columns]
    lines = np.arange(len(frame)) + begin
    return Sheet(names, cells, lines, dtypes=tuple(_type_of(frame.iloc[:, j]) for j in range(frame.shape[1])))


MOST_LISTED = 1_000
"""Maximum number of categories, or of objects that are not strings, that are stored with a dtype."""
PLAIN = (bool, int, float, str)
"""Python types to which the cells of columns of dtype object can be restored."""


def _type_of(column: pd.Series) -> str:
    """Return the pandas dtype of a column as a string, followed by JSON of what the string lacks.

    The JSON lists all categories and whether they are ordered, unless they are the sorted words of the column; and for
    objects other than strings, the cells of each type. It depends on the cells, so private fits may use only the dtype
    before it.
    """
    dtype = str(column.dtype)
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories, ordered = column.cat.categories.tolist(), bool(column.cat.ordered)
        observed = [categories[code] for code in np.unique(column.cat.codes) if code >= 0]
        is_default = (
            not ordered
            and categories == observed
            and all(isinstance(value, str) for value in categories)
            and categories == sorted(categories)
        )
        if is_default or len(categories) > MOST_LISTED or not all(type(value) in PLAIN for value in categories):
            return dtype
        return f"{dtype} {json.dumps({'categories': categories, 'ordered': ordered})}"
    if dtype == "object":
        present = column[column.notna()].tolist()
        kinds = {type(value) for value in present}
        if len(kinds) == 1 and kinds < {bool, int, float}:
            return f"{dtype} {json.dumps({'all': kinds.pop().__name__})}"
        typed_values = {(type(value), value) for value in present if type(value) in PLAIN and type(value) is not str}
        if typed_values and len(typed_values) <= MOST_LISTED:
            texts_by_type = {
                name: sorted(_written(value) for t, value in typed_values if t.__name__ == name)
                for name in ("bool", "int", "float")
            }
            return f"{dtype} {json.dumps({name: texts for name, texts in texts_by_type.items() if texts})}"
    return dtype


def _category(column: Column, cells: pyarrow.Array, is_missing: np.ndarray, metadata: dict[str, Any]) -> Any:
    """Return a pandas categorical column of the given cells.

    Its categories are those in `metadata`, the JSON that `_type_of` wrote; if it is empty, those of the schema column.
    Cells outside these categories become further categories.
    """
    if not metadata and isinstance(column, Numerical):
        return pd.Categorical(_numbers(column, cells, is_missing, "float64" if column.form.decimals else "int64"))
    nullable = _ARROW.if_else(pyarrow.array(is_missing), pyarrow.scalar(None, TEXT), cells)
    if metadata:
        categories = metadata["categories"]
    else:
        categories = (
            list(column.value_names)
            if isinstance(column, Categorical | Boolean)
            else sorted(cells.filter(pyarrow.array(~is_missing)).unique().to_pylist())
        )
        if isinstance(column, Categorical) and column.other is not None:
            categories.remove(column.other)
    category_texts = [_written(category) for category in categories]
    unlisted = [word for word in _ARROW.unique(nullable.drop_null()).to_pylist() if word not in category_texts]
    codes = np.asarray(_ARROW.index_in(nullable, text_array([*category_texts, *unlisted])).fill_null(-1))
    dtype = pd.CategoricalDtype([*categories, *unlisted], ordered=metadata.get("ordered", False))
    return pd.Categorical.from_codes(codes, dtype=dtype)  # pyrefly: ignore


def _objects(cells: pyarrow.Array, is_missing: np.ndarray, metadata: dict[str, Any]) -> pd.Series:
    """Return a column of Python objects, with the types that `metadata`, the JSON of `_type_of`, states.

    It states one type for all cells, or lists the cells of each type; unlisted cells are strings.
    """
    parsers: dict[str, Callable[[str], Any]] = {"bool": lambda word: word == "True", "int": int, "float": float}
    if type_name := metadata.get("all"):
        parsed = {
            word: parsers[type_name](word)
            for word in _ARROW.unique(cells.filter(pyarrow.array(~is_missing))).to_pylist()
        }
    else:
        parsed = {word: parsers[name](word) for name, words in metadata.items() for word in words}
    objects = [
        None if is_null else parsed.get(word, word) for word, is_null in zip(cells.to_pylist(), is_missing, strict=True)
    ]
    return pd.Series(objects, dtype=object)


def load_cells(path: pathlib.Path) -> RawTable:
    """Read all cells of a .csv, .tsv or .txt file (optionally .gz) or a .parquet file, which must have a header.

    InputError if rows differ in the number of cells, column names are empty or repeated, or there are no rows.
    """
    return table_of(open_sheet(path), str(path))


def table_of(sheet: Sheet | None, where: str) -> RawTable:
    """Return a sheet as a table whose header is the first row; InputError for empty or repeated names, or no rows."""
    if sheet is None:
        raise InputError(expected="a table, but the file is empty", place=where)
    names = sheet.first_row
    if not sheet.dtypes and all_numbers(names) and any(names):
        raise InputError("column names in the first row", ", ".join(names[:3]), "Add a header", place=where)
    check_header(names, where)
    if not len(sheet.lines) or not names:
        rows = f"rows and columns; found {len(sheet.lines)} x {len(names)}"
        remedy = "Add rows, or leave the table out"
        raise InputError(expected=rows if sheet.dtypes else "rows below the header", remedy=remedy, place=where)
    table = sheet.cells.rename_columns(names)
    return RawTable(table, columns=tuple(names), lines=sheet.lines, dialect=sheet.dialect, dtypes=sheet.dtypes)


def from_frame(frame: pd.DataFrame, where: str = "the data frame") -> RawTable:
    """Return all cells of a data frame as a table, which also stores the dtypes.

    InputError if column names are empty or repeated, or there are no rows.
    """
    return table_of(sheet_of(frame), where)


def _restore_integers(frame: pd.DataFrame, path: pathlib.Path) -> pd.DataFrame:
    """Return the frame with exact integers in the columns that pandas read as floats because of missing values."""
    types = {column.name: str(column.type) for column in parquet.read_schema(path)}
    integer_columns = [
        name for name, dtype in types.items() if name in frame.columns and dtype.lstrip("u").startswith("int")
    ]
    lossy = [
        name
        for name in integer_columns
        if str(frame[name].dtype) == "float64" and bool((frame[name].abs() > EXACT).any())
    ]
    exact = parquet.read_table(path, columns=lossy).to_pydict() if lossy else {}
    restored = {
        name: pd.array(exact[name], dtype="UInt64" if types[name].startswith("u") else "Int64") for name in lossy
    }
    return frame.assign(**restored)


def text_cells(column: Any, *, blanks: bool = False) -> pyarrow.Array:
    """Return the cells of a data frame column as texts; a missing cell becomes an empty text.

    Leading and trailing blanks are stripped unless `blanks` is True. The text of a cell depends only on the cell and
    the dtype, not on other cells.
    """
    is_missing = pyarrow.array(column.isna().to_numpy(dtype=bool))
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        words = text_cells(pd.Series(column.cat.categories.astype(object)))
        texts = words.take(pyarrow.array(column.cat.codes.to_numpy(), mask=np.asarray(is_missing)))
    elif types.is_datetime64_any_dtype(column):
        texts = _times(column)
    elif types.is_bool_dtype(column.dtype):
        texts = _ARROW.if_else(pyarrow.array(column.fillna(False).to_numpy(dtype=bool)), "True", "False").cast(TEXT)
    elif types.is_integer_dtype(column.dtype):
        texts = pyarrow.array(column.fillna(0).to_numpy()).cast(TEXT)
    elif types.is_float_dtype(column.dtype):
        texts = _floats(column.to_numpy(dtype=np.float64, na_value=np.nan))
    elif isinstance(column.dtype, pd.StringDtype):
        texts = pyarrow.array(column, from_pandas=True).cast(TEXT)
        texts = texts.combine_chunks() if isinstance(texts, pyarrow.ChunkedArray) else texts
    else:
        values = column.astype(object).tolist()
        for row, value in enumerate(values, 1):
            if isinstance(value, list | tuple | dict | set | np.ndarray):
                raise InputError(
                    "a number, string, date or Boolean in each cell",
                    f"a {type(value).__name__}",
                    "Split the values into several columns, or convert them to strings",
                    row=row,
                    column=str(column.name),
                )
        texts = text_array([_written(value) for value in values])
    texts = texts if blanks else _ARROW.utf8_trim_whitespace(texts)
    return _ARROW.if_else(is_missing, "", texts.fill_null("")).cast(TEXT)


def _times(column: Any) -> pyarrow.Array:
    naive = column.dt.tz_convert("UTC").dt.tz_localize(None) if getattr(column.dt, "tz", None) else column
    texts = text_array(np.datetime_as_string(naive.to_numpy().astype("M8[us]"), unit="us").tolist())
    return _ARROW.replace_substring_regex(_ARROW.replace_substring(texts, "T", " "), r"( 00:00:00)?\.000000$", "")


def _floats(values: np.ndarray) -> pyarrow.Array:
    """Format floats as Python does, but whole ones without a point, since a missing cell turns integers into floats."""
    is_whole = (np.floor(values) == values) & (np.abs(values) < EXACT) & ~((values == 0) & np.signbit(values))
    is_fixed = (np.abs(values) >= FIXED[0]) & (np.abs(values) < FIXED[1]) & ~is_whole
    digits = pyarrow.array(np.where(is_whole, values, 0).astype(np.int64)).cast(TEXT)
    formatted = _ARROW.if_else(
        pyarrow.array(is_whole), digits, pyarrow.array(np.where(is_fixed, values, 0.5)).cast(TEXT)
    )
    is_other = ~(is_whole | is_fixed)
    if is_other.any():
        texts = text_array([_written(value) for value in values[is_other].tolist()])
        formatted = _ARROW.replace_with_mask(formatted, pyarrow.array(is_other), texts)
    return formatted


FIXED = (1e-3, 1e9)
"""Range of absolute values that Arrow formats like Python, without an exponent."""


def _written(value: Any) -> str:
    """Format a scalar other than a time; whole floats without a point."""
    if isinstance(value, float | np.floating):
        return repr(float(value)).removesuffix(".0")
    return str(value)


def holds_words(sheet: Sheet, among: tuple[str, ...] = ()) -> bool:
    """Return True if a table has a column, besides the label column, whose cells are mostly text.

    If `among` is not empty, only these columns are checked. A few misspelt numbers do not make a text column. A table
    without a header has no text columns.
    """
    names, rows = sheet.first_row, sheet.head(SNIFF_ROWS)
    if all_numbers(names):
        return False
    candidates = [j for j, name in enumerate(names) if name.lower() not in LABEL_NAMES and (not among or name in among)]
    return any(_are_words([row[j] for row in rows]) for j in candidates)


def _are_words(cells: list[str]) -> bool:
    present = [cell for cell in cells if cell.lower() not in BLANK]
    return 2 * sum(parse_number(cell.replace("_", "")) is None for cell in present) > len(present)
