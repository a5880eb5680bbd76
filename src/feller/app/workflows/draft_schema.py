"""Drafting of the schema of a table, which the data owner then edits."""

import os
import pathlib
from typing import Any

import pandas as pd

from feller.core.errors import InputError, UsageError, error_context
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_table
from feller.data.loading.in_memory import DataSource, check_frame, said_of, with_index
from feller.data.tables.dataframes import from_frame
from feller.data.tables.modality import Table
from feller.data.tables.relations import relation_lines
from feller.data.tables.schema import KINDS, write_schema
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.schema_lint import rare_value_warnings, schema_warnings

DRAFT_NOTE = (
    "this draft was inferred from the rows and is not private until you have reviewed it: keep only bounds, edges and"
    ' values that are known without the rows; then remove its line "draft": true'
)
DOCUMENTED_NOTE = "this schema is from the documentation of the data, not from its rows"


def draft_schema(source: str, out: str) -> dict[str, Any]:
    """Write a draft schema that is inferred from a table, or copied from an example with a public schema.

    Args:
        source: File with the table, or `example:NAME`.
        out: JSON file to write, which must not exist.

    Returns:
        Number of rows, type of each column, relations between columns, path of the schema file, and warnings about
        values that may reveal rows.

    Raises:
        InputError: If the table is damaged, or the output file exists.
        UsageError: If the example does not exist.
    """
    path, warnings, relations = pathlib.Path(out), (), ()
    if source.startswith(EXAMPLE_PREFIX):
        modality, n = _example(source)
        schema = modality.schema
    else:
        with error_context(source):
            cells = load_table(pathlib.Path(source))
            schema, n = detect_schema(cells), len(cells.values)
            warnings = rare_value_warnings(schema, cells)
            relations = relation_lines(cells, schema)
    if path.exists():
        raise InputError(
            "already exists and may have been edited",
            remedy="Choose another file with --out, or remove this file",
            file=path,
        )
    write_schema(schema, path, draft=not source.startswith(EXAMPLE_PREFIX))
    type_names = {cls: type_name for type_name, cls in KINDS.items()}
    return {
        "data": source,
        "rows": n,
        "schema": str(path),
        "columns": {column.name: type_names[type(column)] for column in schema.columns},
        "relations": list(relations),
        "warnings": [*warnings, *schema_warnings(schema, n)],
        "note": DOCUMENTED_NOTE if source.startswith(EXAMPLE_PREFIX) else DRAFT_NOTE,
    }


def infer_schema(data: DataSource) -> dict[str, object]:
    """Infer the schema of a table, as a dict to review and then pass to `fit(schema=...)`.

    The draft is inferred from the rows, so it is not private until you have reviewed it: keep only values that are
    known without the rows, such as public bounds, and remove the entry `draft`. `json.dump` writes the dict to a file
    like that of `feller data schema`.

    Args:
        data: DataFrame, file or example; for an example with a public schema, this schema is returned.

    Raises:
        InputError: If the file is not a table.
        UsageError: If `data` has another type, or its columns have no names.
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
            remedy="Convert it to a DataFrame: pd.DataFrame(data)",
        )
    if str(data).startswith(EXAMPLE_PREFIX):
        return _example(str(data))[0].schema.to_dict()
    with error_context(str(data)):
        return {**detect_schema(load_table(pathlib.Path(data))).to_dict(), "draft": True}


def _example(source: str) -> tuple[Table, int]:
    data = read(source)
    if (table := data.modality.view(Table)) is None:
        raise UsageError("has no schema", remedy="Use an example with a table, such as example:adult", file=source)
    return table, len(data)
