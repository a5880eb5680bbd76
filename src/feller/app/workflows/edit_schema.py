"""Edits of the schema of a table by options: kinds of columns, rare values, target, clipping and public columns."""

import pathlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from feller.app.config import SchemaConfig
from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Categorical, Column, ModelledColumn
from feller.data.tables.dependent_columns import sources_of
from feller.data.tables.history_rows import HistoryColumns, detect_history
from feller.data.tables.rules import named_values
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import MAX_VALUES, OTHER, code_column, identifier_column
from feller.data.tables.unmodelled_columns import FreeText, SkippedColumn

KINDS = ("drop", "codes", "identifier", "text")
"""Options that set the kind of columns; a column may be named by one of them only."""


def check_new(path: pathlib.Path) -> None:
    """Raise an InputError if the file of a schema exists."""
    if path.exists():
        raise InputError(
            "already exists and may have been edited",
            remedy="Choose another file with --out, or remove this file",
            file=path,
        )


def edit_schema(
    schema: Schema, cells: RawTable, config: SchemaConfig, *, drafted: bool = False
) -> tuple[Schema, tuple[str, ...]]:
    """Return an edited schema, and notes on the merged values.

    Args:
        schema: Schema to edit.
        cells: Table that the schema describes; values and their frequencies are taken from it.
        config: Edits.
        drafted: True if the schema was inferred from `cells`, so that values that are not listed may be added.

    Raises:
        InputError: If a column does not exist, or cannot be edited because the rest of the schema refers to it.
        UsageError: If a column is to have two kinds.
    """
    kind_of = _kinds(schema, config)
    _check_references(schema, config, kind_of)
    dtypes = dict(zip(cells.columns, cells.dtypes, strict=True)) if cells.dtypes else {}

    def codes(column: Column) -> Column:
        found = code_column(column.name, cells.factorize(column.name), dtypes.get(column.name))
        if isinstance(column, ModelledColumn) and column.missing is not None:
            missing_words = (column.missing, *column.also_missing)
            values = tuple(value for value in found.values if value not in missing_words)
            return replace(found, values=values, missing=column.missing, also_missing=column.also_missing)
        return found

    changes: dict[str, Callable[[Column], Column]] = {
        "drop": lambda column: SkippedColumn(column.name),
        "codes": codes,
        "identifier": lambda column: identifier_column(
            column.name, cells.factorize(column.name), dtypes.get(column.name)
        ),
        "text": lambda column: FreeText(column.name),
    }
    columns = [changes[kind_of[column.name]](column) if column.name in kind_of else column for column in schema.columns]
    public, notes = tuple(dict.fromkeys((*schema.public, *config.public))), []
    if config.rare is not None:
        for j, column in enumerate(columns):
            if isinstance(column, Categorical) and column.name not in public:
                columns[j], column_notes = _without_rare(column, cells, schema, config.rare, drafted=drafted)
                notes += column_notes
    edited = replace(
        schema,
        columns=tuple(columns),
        outside="clip" if config.clip else schema.outside,
        target=config.target or schema.target,
        public=tuple(name for name in public if kind_of.get(name) != "drop"),
    )
    histories = config.histories
    HistoryColumns(histories.person, histories.order, histories.max_rows).check()
    if histories.person is not None:
        edited = detect_history(cells, histories.person, histories.order, histories.max_rows, edited)
    return edited, tuple(notes)


def _kinds(schema: Schema, config: SchemaConfig) -> dict[str, str]:
    """Return the option that sets the kind of each edited column; InputError or UsageError for wrong names."""
    kind_of: dict[str, str] = {}
    for option in (*KINDS, "public"):
        for name in getattr(config, option):
            if name not in schema.names:
                raise InputError.unknown_name(option, name, schema.names)
            if option != "public" and kind_of.setdefault(name, option) != option:
                raise UsageError(
                    argument=option,
                    expected="columns that no other option names",
                    found=f"{name!r}, which is also in --{kind_of[name]}",
                    remedy="Name it in one of them",
                )
    if config.target is not None and config.target not in schema.names:
        raise InputError.unknown_name("target", config.target, schema.names)
    return kind_of


def _check_references(schema: Schema, config: SchemaConfig, kind_of: dict[str, str]) -> None:
    """Raise an InputError if a column is to be left out of the model, but the schema refers to it."""
    for name, option in kind_of.items():
        if option == "codes":
            continue
        sources = [column.name for column in schema.columns if name in sources_of(column)]
        sources = [other for other in sources if kind_of.get(other) is None]
        roles = {
            "the target": name == (config.target or schema.target),
            "the unit": name == schema.unit and option != "identifier",
            "a column with rules": any(name in rule.names for rule in schema.rules),
            f"the source of {', '.join(sources)}": bool(sources),
        }
        role = next((text for text, applies in roles.items() if applies), None)
        if role is not None:
            raise InputError(
                argument=option,
                expected="columns to which nothing else in the schema refers",
                found=f"{name!r}, {role}",
                remedy="Change that part of the schema first",
            )
    if config.target is not None:
        column = next(column for column in schema.columns if column.name == config.target)
        if not isinstance(column, ModelledColumn) and kind_of.get(config.target) != "codes":
            modelled = [column.name for column in schema.modelled]
            raise InputError.unknown_name("target", config.target, modelled)


def _without_rare(
    column: Categorical, cells: RawTable, schema: Schema, rare: int, *, drafted: bool
) -> tuple[Column, list[str]]:
    """Return a column without values in fewer than `rare` rows, and a note if there were any."""
    counts = Counter(dict(_word_counts(column, cells)))
    in_rules = {value for rule in schema.rules for name, value in named_values(rule) if name == column.name}
    listed = column.values
    if drafted and column.other is not None:  # the draft lists the most frequent values only
        listed = tuple(
            sorted(word for word, _ in counts.most_common(MAX_VALUES) if word not in column.words_for_missing)
        )
    kept = tuple(value for value in listed if counts[value] >= rare or value in in_rules or value == column.other)
    num_merged = len(set(column.values) - set(kept))
    if not kept:
        return SkippedColumn(column.name), [f"column {column.name!r} has no value in {rare} rows or more; skipped"]
    if not num_merged:
        return (column if listed == column.values else replace(column, values=kept)), []
    other = OTHER if column.other is None else column.other
    note = f"column {column.name!r}: {num_merged} values in fewer than {rare} rows are merged into {other!r}"
    is_number = column.dtype is not None and column.dtype.lower().startswith(("int", "uint", "float"))
    return replace(column, values=kept, other=other, dtype=None if is_number else column.dtype), [note]


def _word_counts(column: Categorical, cells: RawTable) -> list[tuple[str, int]]:
    factorized = cells.factorize(column.name)
    missing = {"", *column.words_for_missing} if column.missing is not None else set()
    words = zip(factorized.uniques.to_pylist(), factorized.counts.tolist(), strict=True)
    return [(word, count) for word, count in words if word not in missing]
