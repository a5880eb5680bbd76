"""From a table to a schema that its owner edits."""

import os
import pathlib
from typing import Any

import pandas as pd

from feller.core.errors import InputError, UsageError
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_table
from feller.data.loading.in_memory import DataSource, check_frame, said_of, with_index
from feller.data.loading.raw import error_context
from feller.data.tables.dataframes import from_frame
from feller.data.tables.modality import Table
from feller.data.tables.schema import KINDS, write_schema
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.schema_lint import rare_value_warnings, schema_warnings

DRAFT_NOTE = (
    "this was guessed from the rows, so it is not private before somebody has gone through it: keep only bounds,"
    ' edges and values that are known without them; then take out its line "draft": true'
)
DOCUMENTED_NOTE = "this is from the documentation of the data, not from their rows"


def draft_schema(source: str, out: str) -> dict[str, Any]:
    """Write what the columns of a table look like, or, of an example, its public schema.

    Returns:
        The number of rows, the kind of each column, where the schema is, and what in it may betray people.

    Raises:
        InputError: If the table is damaged, or there is such a file, which somebody may have edited.
        UsageError: If there is no such example.
    """
    path, warnings = pathlib.Path(out), ()
    if source.startswith(EXAMPLE_PREFIX):
        modality, n = _example(source)
        schema = modality.schema
    else:
        with error_context(source):
            cells = load_table(pathlib.Path(source))
            schema, n = detect_schema(cells), len(cells.values)
            warnings = rare_value_warnings(schema, cells)
    if path.exists():
        raise InputError(
            "is there already, and may have been edited", remedy="Name another file with --out, or remove it", file=path
        )
    write_schema(schema, path, draft=not source.startswith(EXAMPLE_PREFIX))
    names = {cls: kind for kind, cls in KINDS.items()}
    return {
        "data": source,
        "rows": n,
        "schema": str(path),
        "columns": {column.name: names[type(column)] for column in schema.columns},
        "warnings": [*warnings, *schema_warnings(schema, n)],
        "note": DOCUMENTED_NOTE if source.startswith(EXAMPLE_PREFIX) else DRAFT_NOTE,
    }


def infer_schema(data: DataSource) -> dict[str, object]:
    """Guess what the columns of a table are, as a dict to go through and to give to `fit(schema=...)`.

    What it says follows from the rows, so it is not private before somebody has gone through it: keep what is known
    without them, such as bounds, and take out its entry `draft`, which says so. `json.dump` writes it as `feller data
    schema` does.

    Args:
        data: A DataFrame, a file, or an example, whose public schema it is.

    Raises:
        InputError: If it is no table.
        UsageError: If it is neither, or its columns have no names.
    """
    if isinstance(data, pd.DataFrame):
        data, _ = with_index(data)
        check_frame(data)
        with error_context(said_of(data)):
            return {**detect_schema(from_frame(data)).to_dict(), "draft": True}
    if not isinstance(data, str | os.PathLike):
        raise UsageError(
            argument="data",
            expected="a DataFrame, or a file with a table",
            found=type(data).__name__,
            remedy="Make a DataFrame of it: pd.DataFrame(data)",
        )
    if str(data).startswith(EXAMPLE_PREFIX):
        return _example(str(data))[0].schema.to_dict()
    with error_context(str(data)):
        return {**detect_schema(load_table(pathlib.Path(data))).to_dict(), "draft": True}


def _example(source: str) -> tuple[Table, int]:
    data = read(source)
    if (table := data.modality.view(Table)) is None:
        raise UsageError("is no table with a schema; example:adult is one", file=source)
    return table, len(data)
