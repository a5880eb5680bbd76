"""Drafting of the schema of a table, which the data owner then edits."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import pandas as pd

from feller.app.config import SchemaConfig
from feller.app.workflows.draft_linked_schema import draft_linked_schema, infer_linked_schema
from feller.app.workflows.edit_schema import check_new, edit_schema
from feller.core.errors import UsageError, error_context
from feller.data.database_urls import hide_password
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_table
from feller.data.loading.in_memory import DataSource, check_frame, is_frames, said_of, with_index
from feller.data.loading.linked_files import holds_linked_tables
from feller.data.loading.raw import RawTable
from feller.data.tables.dataframes import from_frame
from feller.data.tables.encoding import check_columns
from feller.data.tables.modality import Table
from feller.data.tables.relations import relation_lines, with_relations
from feller.data.tables.schema import KINDS, Schema, schema_of, write_schema
from feller.data.tables.schema import is_draft as is_draft_file
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.schema_lint import detection_notes, rare_value_warnings, schema_warnings

DRAFT_NOTE = (
    "this draft was inferred from the rows and is not private until you have reviewed it: keep only bounds, edges and"
    ' values that are known without the rows; then remove its line "draft": true'
)
EDITED_NOTE = "this schema counts as reviewed, as the schema from which it was edited; review the edits"
DOCUMENTED_NOTE = "this schema is from the documentation of the data, not from its rows"


def draft_schema(
    source: str,
    out: str,
    config: SchemaConfig = SchemaConfig(),  # noqa: B008 - frozen
    schema: str | None = None,
) -> dict[str, Any]:
    """Write the schema of a table: inferred from its rows, copied from an example, or an existing one; then edited.

    Args:
        source: File with the table, `example:NAME`, or a table of a database.
        out: JSON file to write, which must not exist.
        config: Edits of the schema.
        schema: Existing schema of the table, to be edited instead of a new draft.

    Returns:
        Number of rows, type of each column, relations between columns, path of the schema file, notes, and warnings
        about values that may reveal rows.

    Raises:
        InputError: If the table is damaged, the output file exists, or a column to edit does not exist.
        UsageError: If the example does not exist, or a column is to have two kinds.
    """
    source = hide_password(source)
    if holds_linked_tables(source):
        result, is_draft = draft_linked_schema(source, out, config, schema)
        return {**result, "note": DRAFT_NOTE if is_draft else EDITED_NOTE}
    path, is_example = pathlib.Path(out), source.startswith(EXAMPLE_PREFIX)
    check_new(path)
    cells, start, is_draft = _start(source, schema)
    with error_context(source):
        edited, notes = edit_schema(start, cells, config, drafted=schema is None and not is_example)
        edited.require_modelled()
        edited = with_relations(cells, edited) if schema is None and not is_example else edited
    write_schema(edited, path, draft=is_draft)
    type_names = {cls: type_name for type_name, cls in KINDS.items()}
    n, is_public = len(cells.values), is_example and schema is None
    return {
        "data": source,
        "rows": n,
        "schema": str(path),
        "columns": {column.name: type_names[type(column)] for column in edited.columns},
        "relations": [*relation_lines(cells, edited)],
        "notes": [*(detection_notes(edited, cells) if schema is None and not is_example else ()), *notes],
        "warnings": [*(() if is_public else rare_value_warnings(edited, cells)), *schema_warnings(edited, n)],
        "note": DRAFT_NOTE if is_draft else DOCUMENTED_NOTE if is_public else EDITED_NOTE,
    }


def infer_schema(
    data: DataSource,
    schema: str | os.PathLike[str] | Mapping[str, object] | Schema | None = None,
    config: SchemaConfig = SchemaConfig(),  # noqa: B008 - frozen
) -> dict[str, object]:
    """Infer the schema of a table, or edit an existing one; see `feller.infer_schema`.

    Raises:
        InputError: If the file is not a table, or a column to edit does not exist.
        UsageError: If `data` has another type, its columns have no names, or a column is to have two kinds.
    """
    data = hide_password(data)
    if is_frames(data) or (isinstance(data, str | os.PathLike) and holds_linked_tables(data)):
        assert not isinstance(schema, Schema)
        return infer_linked_schema(data, schema, config)
    cells, start, is_draft = _start(data, schema)
    with error_context(said_of(data) if isinstance(data, pd.DataFrame) else str(data)):
        edited, _ = edit_schema(start, cells, config, drafted=schema is None and is_draft)
        edited = with_relations(cells, edited) if schema is None and is_draft else edited
    return {**edited.to_dict(), **({"draft": True} if is_draft else {})}


def _start(
    data: DataSource, schema: str | os.PathLike[str] | Mapping[str, object] | Schema | None
) -> tuple[RawTable, Schema, bool]:
    """Return the cells of a table, its schema before edits, and whether that is an unreviewed draft."""
    if isinstance(data, pd.DataFrame):
        data, _ = with_index(data)
        check_frame(data)
        where, cells, example = said_of(data), from_frame(data), None
    elif isinstance(data, str | os.PathLike):
        where = hide_password(str(data))
        example, cells = _example(where) if where.startswith(EXAMPLE_PREFIX) else (None, None)
    else:
        raise UsageError(
            argument="data",
            expected="a DataFrame, or a file with a table",
            found=type(data).__name__,
            remedy="Convert it to a DataFrame: pd.DataFrame(data)",
        )
    with error_context(where):
        cells = load_table(where) if cells is None else cells
        if schema is None:
            return cells, (detect_schema(cells, relations=False) if example is None else example), example is None
        given = schema_of(schema)
        check_columns(cells, given)
        is_draft = schema.get("draft") is True if isinstance(schema, Mapping) else False
        if isinstance(schema, str | os.PathLike):
            is_draft = is_draft_file(pathlib.Path(schema))
        return cells, given, is_draft


def _example(source: str) -> tuple[Schema, RawTable]:
    data = read(source)
    if (table := data.modality.view(Table)) is None:
        raise UsageError("has no schema", remedy="Use an example with a table, such as example:adult", file=source)
    return table.schema, data.raw_table or table.cells(data.values)
