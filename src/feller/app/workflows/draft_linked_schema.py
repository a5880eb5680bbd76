"""Drafting of the schema of several tables that are linked by keys, which the data owner then edits."""

import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from feller.app.config import SchemaConfig
from feller.app.workflows.edit_schema import check_new, edit_schema
from feller.core.errors import InputError, UsageError, error_context
from feller.data.loading.linked_files import load_tables
from feller.data.loading.raw import RawTables
from feller.data.tables.key_detection import detect_linked_schema
from feller.data.tables.linked_schema import LinkedSchema
from feller.data.tables.linked_schema_files import linked_schema_of, linked_schema_text, write_linked_schema
from feller.data.tables.relations import relation_lines
from feller.data.tables.schema import KINDS, Schema
from feller.data.tables.schema_lint import rare_value_warnings, schema_warnings

NAMED = ("drop", "codes", "identifier", "text", "public")
"""Options that name columns, as TABLE.COLUMN."""
Tables = str | os.PathLike[str] | Mapping[str, pd.DataFrame]
GivenSchema = str | os.PathLike[str] | Mapping[str, object] | LinkedSchema


def infer_linked_schema(data: Tables, schema: GivenSchema | None, config: SchemaConfig) -> dict[str, object]:
    """Return the schema of several tables as a JSON object: detected from their rows, or an existing one; then edited.

    Raises:
        InputError: If a table is damaged, keys cannot be found, or a column to edit does not exist.
        UsageError: If a column is to have two kinds.
    """
    edited, _, is_draft = _edited(data, schema, config)
    return json.loads(linked_schema_text(edited, draft=is_draft))


def draft_linked_schema(source: str, out: str, config: SchemaConfig, schema: str | None) -> tuple[dict[str, Any], bool]:
    """Write the schema of the tables of a folder; arguments and result are those of `draft_schema`.

    Returns:
        The result without its note, and True for an unreviewed draft.
    """
    path = pathlib.Path(out)
    check_new(path)
    with error_context(source):
        edited, raw, is_draft = _edited(source, schema, config)
    write_linked_schema(edited, path, draft=is_draft)
    kinds = {cls: kind for kind, cls in KINDS.items()}
    tables = {table.name: edited.schemas[table.name] for table in edited.links.tables}
    links = [
        f"{table.name}.{', '.join(key.columns)} refers to {key.table}"
        for table in edited.links.tables
        for key in table.foreign_keys
    ]
    result = {
        "data": source,
        "rows": sum(len(table.values) for table in raw.tables.values()),
        "schema": str(path),
        "columns": {f"{name}.{c.name}": kinds[type(c)] for name, own in tables.items() for c in own.columns},
        "relations": [
            *links,
            *(f"{n}: {line}" for n, own in tables.items() for line in relation_lines(raw.table(n), own)),
        ],
        "notes": [f"persons are the rows of {edited.persons}; a private fit protects each with all of its rows"],
        "warnings": [
            f"{name}: {line}"
            for name, own in tables.items()
            for line in (*rare_value_warnings(own, raw.table(name)), *schema_warnings(own, len(raw.table(name).values)))
        ],
    }
    return result, is_draft


def _edited(data: Tables, schema: GivenSchema | None, config: SchemaConfig) -> tuple[LinkedSchema, RawTables, bool]:
    """Return the edited schema, the tables, and whether the schema is an unreviewed draft."""
    raw = load_tables(data)
    options = config.histories
    if schema is None:
        start, is_draft = detect_linked_schema(raw, options.person, options.order, options.max_rows), True
    else:
        if options.person is not None:
            raise UsageError("the schema names the table of persons", remedy="Leave out --person", argument="person")
        start = linked_schema_of(schema)
        content = schema
        if isinstance(schema, str | os.PathLike):
            content = json.loads(pathlib.Path(schema).read_text(encoding="utf-8-sig"))
        is_draft = isinstance(content, Mapping) and content.get("draft") is True
    if config.target is not None:
        raise UsageError("applies to a single table", remedy="Leave it out", argument="target")
    _check_names(start, config)
    schemas = {name: _edited_table(start, name, raw, config, drafted=schema is None) for name in start.schemas}
    return replace(start, schemas=schemas), raw, is_draft


def _edited_table(start: LinkedSchema, name: str, raw: RawTables, config: SchemaConfig, *, drafted: bool) -> Schema:
    own: dict[str, Any] = {
        option: tuple(c.removeprefix(f"{name}.") for c in getattr(config, option) if c.startswith(f"{name}."))
        for option in NAMED
    }
    keys = next(keys for keys in start.keys if keys.name == name)
    generated = {table.name for table in start.links.tables}
    looked_up = [column for key in keys.foreign_keys if key.table not in generated for column in key.columns]
    own["public"] = tuple(dict.fromkeys((*own["public"], *looked_up)))
    with error_context(place=name):
        edits = SchemaConfig(rare=config.rare, clip=config.clip, **own)
        return edit_schema(start.schemas[name], raw.table(name), edits, drafted=drafted)[0]


def _check_names(start: LinkedSchema, config: SchemaConfig) -> None:
    known = [f"{name}.{column}" for name, schema in start.schemas.items() for column in schema.names]
    for option in NAMED:
        for name in getattr(config, option):
            if name not in known:
                raise InputError.unknown_name(option, name, known, alternatives=" (TABLE.COLUMN)")
