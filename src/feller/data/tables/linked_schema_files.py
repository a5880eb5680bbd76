"""Schemas of several linked tables as JSON: parsing, writing, and errors with table, column and field."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from feller.core.errors import InputError, error_context
from feller.core.serialization import from_dict
from feller.data.tables.history_schema import MAX_ROWS
from feller.data.tables.linked_schema import ForeignKey, LinkedSchema, TableKeys
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import VERSION, Schema, parse_schema, schema_text, unusual_fields, write_schema_text

_PARTS = ("version", "draft", "persons", "max_rows", "outside", "tables")
_KEYS = ("primary_key", "foreign_keys", "order", "gap", "lookup")


def holds_linked_schema(source: object) -> bool:
    """Return True for the schema of several tables: a `LinkedSchema`, or a dict or JSON file with "tables"."""
    if isinstance(source, LinkedSchema):
        return True
    if isinstance(source, str | os.PathLike):
        try:
            source = json.loads(pathlib.Path(source).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            return False
    return isinstance(source, Mapping) and "tables" in source


def linked_schema_of(source: object) -> LinkedSchema:
    """Return a schema of several tables from a `LinkedSchema`, a dict, or a JSON file; see `holds_linked_schema`.

    Raises:
        InputError: If it is invalid; the error has the table, column and field.
    """
    if isinstance(source, LinkedSchema):
        return source
    if isinstance(source, str | os.PathLike):
        path = pathlib.Path(source)
        with error_context(path):
            return parse_linked_schema(json.loads(path.read_text(encoding="utf-8-sig")))
    assert isinstance(source, Mapping)
    return parse_linked_schema(source)


def parse_linked_schema(content: Mapping[str, Any]) -> LinkedSchema:
    """Parse the schema of several tables from a JSON object; InputError if it is invalid."""
    unknown = next((name for name in content if name not in _PARTS), None)
    if unknown is not None:
        raise InputError.unknown_name("part of a schema of several tables", unknown, _PARTS)
    tables = content.get("tables")
    if not isinstance(tables, Mapping) or not all(isinstance(entry, Mapping) for entry in tables.values()):
        raise InputError('"tables": {NAME: {"primary_key": [...], "columns": {...}}, ...}', f"{tables!r:.40}")
    if not isinstance(content.get("persons"), str):
        raise InputError("the name of the table with one row per person", "none", argument="persons")
    max_rows = content.get("max_rows", MAX_ROWS)
    if type(max_rows) is not int:
        raise InputError("an integer", f"{max_rows!r:.40}", argument="max_rows")
    keys, schemas = [], {}
    for name, entry in tables.items():
        with error_context(place=name):
            schema = None if entry.get("lookup") is True else _schema(entry, content)
            keys.append(_keys_of(name, entry, () if schema is None else schema.names))
            if schema is not None:
                schemas[name] = schema
    return LinkedSchema(content["persons"], tuple(keys), schemas, max_rows)


def _schema(entry: Mapping[str, Any], content: Mapping[str, Any]) -> Schema:
    own = {name: value for name, value in entry.items() if name not in _KEYS}
    shared = {"outside": content["outside"]} if "outside" in content else {}
    return parse_schema(json.dumps({"version": content.get("version", 1), **shared, **own}, ensure_ascii=False))


def _keys_of(name: str, entry: Mapping[str, Any], columns: tuple[str, ...]) -> TableKeys:
    foreign = entry.get("foreign_keys", [])
    is_list = isinstance(foreign, list) and all(
        isinstance(key, Mapping) and {*key} == {"columns", "table"} for key in foreign
    )
    if not is_list:
        raise InputError(
            '[{"columns": [COLUMN, ...], "table": TABLE}, ...]', f"{foreign!r:.40}", argument="foreign_keys"
        )
    order = entry.get("order")
    if order is not None and not isinstance(order, str):
        raise InputError("the name of a column", f"{order!r:.40}", argument="order")
    gap = entry.get("gap")
    if gap is not None and not (isinstance(gap, Mapping) and order is not None):
        raise InputError('{"low": 0, "high": ...}, together with "order"', f"{gap!r:.40}", argument="gap")
    found = None if gap is None else from_dict(Numerical, {"name": order, **gap})
    keys = tuple(ForeignKey(_names(key["columns"], "columns"), str(key["table"])) for key in foreign)
    return TableKeys(name, columns, _names(entry.get("primary_key", []), "primary_key"), keys, order, found)


def _names(value: Any, field: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("a list of names of columns", f"{value!r:.40}", argument=field)
    return tuple(names)


def linked_schema_text(schema: LinkedSchema, *, draft: bool = False) -> str:
    """Return the schema of several tables as JSON; `draft` marks it as not yet reviewed by the user."""
    tables = ",\n".join(f" {json.dumps(keys.name)}: {_table_text(schema, keys)}" for keys in schema.keys)
    outside = schema.schemas[schema.persons].outside
    parts = [
        f'"version": {VERSION}',
        *(['"draft": true'] if draft else []),
        f'"persons": {json.dumps(schema.persons, ensure_ascii=False)}',
        f'"max_rows": {schema.max_rows}',
        f'"outside": "{outside}"',
        f'"tables": {{\n{tables}\n}}',
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _table_text(schema: LinkedSchema, keys: TableKeys) -> str:
    """Return the keys and the schema of one table as JSON text."""
    fields: dict[str, Any] = {"lookup": True} if keys.is_lookup else {}
    if keys.primary_key:
        fields["primary_key"] = list(keys.primary_key)
    if keys.foreign_keys:
        fields["foreign_keys"] = [{"columns": list(key.columns), "table": key.table} for key in keys.foreign_keys]
    if keys.order is not None:
        fields["order"] = keys.order
    if keys.gap is not None:
        fields["gap"] = {name: value for name, value in unusual_fields(keys.gap).items() if name != "name"}
    lines = [f' "{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in fields.items()]
    if not keys.is_lookup:
        omitted = (' "version"', ' "unit"', ' "outside"')  # columns of these names are further to the right
        text = schema_text(schema.schemas[keys.name]).strip()[1:-1].strip("\n")
        lines.append("\n".join(line for line in text.split("\n") if not line.startswith(omitted)))
    return "{\n" + ",\n".join(lines) + "\n }"


def write_linked_schema(schema: LinkedSchema, path: pathlib.Path, *, draft: bool = False) -> None:
    """Write the schema of several tables for editing; see `linked_schema_text`."""
    write_schema_text(linked_schema_text(schema, draft=draft), path)
