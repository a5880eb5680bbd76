"""Table schema: columns and allowed cells, with JSON serialisation."""

import json
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from feller.core.errors import InputError, UsageError, error_context
from feller.core.serialization import from_dict, replace_file, to_dict
from feller.data.tables.column import Boolean, Categorical, Column, ModelledColumn
from feller.data.tables.constraints import Pair
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import (
    Copy,
    Gap,
    Sum,
    check_dependent,
    dependency_order,
    modelled_source,
    sources_of,
    text_form,
)
from feller.data.tables.grouped_column import Grouped
from feller.data.tables.history_schema import HistorySchema, check_history
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.rules import (
    Mask,
    Order,
    OrderedPair,
    Rule,
    Unique,
    compile_rules,
    ordered_pairs,
    parse_rule,
    rule_as_dict,
)
from feller.data.tables.unmodelled_columns import Derived, FreeText, HiddenColumn, Identifier, SkippedColumn

ROW = "row"
"""Name of the privacy unit of tables with one row per person."""
MOST_SOURCES = 10_000
"""Maximum number of distinct values in a column from which other columns are derived."""


MAX_COLUMNS = 1_000
"""Maximum number of modelled columns."""


def check_column_count(count: int) -> None:
    """Raise an InputError if a table has too many columns to model."""
    if count > MAX_COLUMNS:
        raise InputError(
            expected=f"at most {MAX_COLUMNS:,} columns to model",
            found=f"{count:,}",
            remedy="Select columns; for signals or spectra, fit an array (.npy)",
        )


@dataclass(frozen=True)
class Schema:
    """Schema of a table: all columns in order, with rules, privacy unit and target."""

    columns: tuple[Column, ...]
    outside: Literal["refuse", "clip", "impute"] = "refuse"
    """Treatment of invalid cells, and of rows that violate a rule. `refuse` raises an error; `clip` replaces a cell by
    the nearest allowed value; `impute` also clips, and replaces cells without a nearest value by the column's default.
    """
    unit: str = ROW
    """Privacy unit: `row` if each person has one row, else the name of the column that identifies people. Without a
    `history`, only the first row of each person is then used."""
    rules: tuple[Rule, ...] = ()
    target: str | None = None
    """Name of the column that reports predict from the other columns to measure utility (default: the last column)."""
    public: tuple[str, ...] = ()
    """Names of the columns whose values, bounds and edges are public facts, so that no warning mentions them."""
    history: HistorySchema | None = None
    """Description of the rows of each person, whose column is `unit`; None to model single rows."""

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        check_column_count(len(self.modelled))
        duplicate = next((name for name, count in Counter(names).items() if count > 1), None)
        if duplicate is not None:
            raise InputError(f"two columns are named {duplicate!r}", remedy="Rename one")
        if any(not name or name != name.strip() for name in names):
            raise InputError(
                "every column needs a name without leading or trailing spaces", remedy="Name or rename the column"
            )
        if self.unit != ROW and not any(isinstance(c, Identifier) and c.name == self.unit for c in self.columns):
            raise InputError(
                f'the unit "{ROW}", or the identifier column of the person',
                repr(self.unit),
                "Declare this column as an identifier",
            )
        if not any(isinstance(column, Identifier) for column in self.columns):  # a table of keys has no others
            self.require_modelled()
        for name in self.public:
            if name not in names:
                raise InputError.unknown_name("public", name, names)
        for column in self.columns:
            if isinstance(column, Derived):
                self._check_derived(column)
        if self.history is not None:
            check_history(self, self.history)
        check_dependent(self.columns)
        self._check_rules()
        _ = self.pairs, self.ordered_pairs, self.target_index

    def require_modelled(self) -> None:
        """Raise an InputError if no column is modelled, as in a table of keys only."""
        if not self.modelled:
            raise InputError(
                "no column can be modelled", remedy="Declare at least one column as categorical or numerical"
            )

    def to_dict(self) -> dict[str, object]:
        """Return the schema as a JSON-compatible dict."""
        return json.loads(schema_text(self))

    @staticmethod
    def from_dict(content: "Mapping[str, object]") -> "Schema":
        """Parse a schema from a dict; InputError if it is invalid."""
        return schema_of(content)

    @property
    def clips(self) -> bool:
        """True if cells that are not allowed are replaced."""
        return self.outside != "refuse"

    @cached_property
    def modelled(self) -> tuple[ModelledColumn, ...]:
        """Columns whose cells a model generates as integer codes; of a gap column, the column of its amounts."""
        columns = (column.amount if isinstance(column, Gap) else column for column in self.columns)
        return tuple(column for column in columns if isinstance(column, ModelledColumn))

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """All columns by name."""
        return {column.name: column for column in self.columns}

    @cached_property
    def in_dependency_order(self) -> tuple[Column, ...]:
        """All columns, each after those from which it is computed."""
        return dependency_order(self.columns)

    @cached_property
    def text_forms(self) -> dict[str, Column]:
        """Column with the format and the dtype of the cells of each column, by name; see `text_form`."""
        return {column.name: text_form(column, self.by_name) for column in self.columns}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def hidden_names(self) -> tuple[str, ...]:
        """Names of the columns that a private schema search could not describe; generated rows lack these columns."""
        return tuple(column.name for column in self.columns if isinstance(column, HiddenColumn))

    @property
    def skipped_names(self) -> tuple[str, ...]:
        """Names of the columns that the schema leaves out; generated rows lack these columns."""
        return tuple(column.name for column in self.columns if isinstance(column, SkippedColumn))

    @property
    def written_columns(self) -> tuple[Column, ...]:
        """Columns of generated rows: all except the hidden and the skipped columns."""
        return tuple(column for column in self.columns if not isinstance(column, HiddenColumn | SkippedColumn))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of codes of each modelled column, including the code of missing cells."""
        return tuple(column.num_codes for column in self.modelled)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Rules as masks over the codes of pairs of modelled columns; the pairs form a forest."""
        return compile_rules(self.rules, self.modelled, tuple(self._gap_masks()))

    @cached_property
    def ordered_pairs(self) -> tuple[OrderedPair, ...]:
        """Rules of order between modelled columns."""
        return ordered_pairs(self.rules, self.modelled)

    def _gap_masks(self) -> Iterator[Mask]:
        """Yield masks by which a gap column is missing where its source is."""
        columns = {column.name: column for column in self.modelled}
        for gap in self.columns:
            if isinstance(gap, Gap):
                source, amount = columns[modelled_source(gap.after, self.by_name).name], columns[gap.name]
                if source.missing is not None:
                    allowed = np.ones((source.num_codes, amount.num_codes), dtype=bool)
                    allowed[source.num_values :, : amount.num_values] = False
                    yield source.name, gap.name, allowed

    def _check_rules(self) -> None:
        for rule in self.rules:
            for name in rule.names:
                if name not in self.by_name:
                    raise InputError.unknown_name("column of a rule", name, self.names)
                column = self.by_name[name]
                if isinstance(rule, Unique):
                    if not isinstance(column, Identifier):
                        raise InputError(
                            "an identifier, since only identifiers are generated without repetition",
                            repr(name),
                            'Declare the column as {"kind": "identifier"}, or remove the rule',
                        )
                elif isinstance(column, Copy | Sum | Derived):
                    source = ", ".join(sources_of(column))
                    raise InputError(
                        f"a modelled column in the rule that {rule.text}", repr(name), f"Use its source, {source}"
                    )
                elif isinstance(column, Gap) and isinstance(rule, Order):
                    raise InputError(
                        f"columns that are no gap columns in the rule that {rule.text}",
                        repr(name),
                        f"Remove the rule, or declare {name!r} as a column of its own kind",
                    )

    @cached_property
    def target_index(self) -> int:
        """Index of the target among the modelled columns."""
        return len(self.modelled) - 1 if self.target is None else self.place(self.target)

    def place(self, name: str) -> int:
        """Return the index of a column among the modelled columns; InputError if no modelled column has this name."""
        names = [column.name for column in self.modelled]
        if name not in names:
            raise InputError.unknown_name("column", name, names)
        return names.index(name)

    def _check_derived(self, column: Derived) -> None:
        source = self.by_name.get(column.source)
        if not isinstance(source, Categorical | Boolean | Numerical):
            names = [other.name for other in self.columns if isinstance(other, Categorical | Boolean | Numerical)]
            raise InputError.unknown_name("source", column.source, names).with_context(column=column.name)
        unmapped = next((cell for cell in _possible_cells(source) if cell not in column.mapping), None)
        if unmapped is not None:
            raise InputError(
                f"the mapping lacks {source.name} = {unmapped!r}",
                remedy="Add this value to the mapping",
                column=column.name,
            )


def _possible_cells(column: Categorical | Boolean | Numerical) -> Iterator[str]:
    if isinstance(column, Numerical):
        first, last = column.levels.starts[0], column.levels.last
        if last - first >= MOST_SOURCES:
            raise InputError("has too many values to be the source of a derived column", column=column.name)
        yield from map(column.form.write, range(first, last + 1))
    else:
        yield from column.value_names
    if column.missing is not None:
        yield column.missing


KINDS: dict[str, type[Column]] = {
    "numerical": Numerical,
    "categorical": Categorical,
    "boolean": Boolean,
    "datetime": Datetime,
    "identifier": Identifier,
    "text": FreeText,
    "derived": Derived,
    "copy": Copy,
    "gap": Gap,
    "sum": Sum,
    "untold": HiddenColumn,
    "skip": SkippedColumn,
    "grouped": Grouped,
}
"""Column classes by their name in the schema file."""
VERSION = 2
"""Version of the schema file format; version 1 had no fields `draft` and `version`."""
_PARTS = ("version", "draft", "unit", "outside", "target", "public", "columns", "rules", "history")
_LISTS = ("values", "edges", "heavy", "numbers", "knots", "weights", "also_missing", "parts")
_ROOM = 116


def schema_of(source: object) -> Schema:
    """Return a schema from a `Schema`, the path of a schema file, or a JSON-compatible dict.

    Raises:
        InputError: If the file or dict is invalid; the error gives the column and field.
        UsageError: If the source has another type.
    """
    if isinstance(source, Schema):
        return source
    if isinstance(source, str | os.PathLike):
        return read_schema(pathlib.Path(source))
    return parse_schema(text_of_schema(source))


def text_of_schema(source: object) -> str:
    """Return a `Schema` or dict as JSON text; UsageError if `source` has another type."""
    if isinstance(source, Schema):
        return schema_text(source)
    if isinstance(source, Mapping):
        try:
            return json.dumps(dict(source), ensure_ascii=False, default=_plain_number)
        except (TypeError, ValueError) as error:
            raise UsageError(
                argument="schema", expected="a dict of strings, numbers and lists, as in JSON", found=str(error)
            ) from error
    raise UsageError(
        argument="schema",
        expected="a file, a dict, or a feller.Schema",
        found=type(source).__name__,
        remedy="feller.infer_schema(df) returns a draft to edit",
    )


def _plain_number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")


def read_schema(path: pathlib.Path) -> Schema:
    """Read a table schema file; if it is invalid, InputError with the line, or the column and field."""
    with error_context(path):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise InputError(
                f"cannot be read ({error.strerror or error}); `feller data schema` writes a schema"
            ) from error
        except UnicodeDecodeError as error:
            raise InputError("a schema in UTF-8", f"byte {error.object[error.start]:#04x}") from error
        return parse_schema(text)


def is_draft(path: pathlib.Path) -> bool:
    """Return True if a schema file is marked as a draft: detected from the rows, and not yet reviewed by the user.

    The file must contain a valid schema.
    """
    with error_context(path):
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text)
        is_linked = isinstance(content, dict) and "tables" in content  # of several tables
        return bool((content if is_linked else _parse_json(text)).get("draft", False))


def parse_schema(text: str) -> Schema:
    """Parse a table schema from JSON; if it is invalid, InputError with the line, or the column and field."""
    content = _parse_json(text)
    columns = tuple(_column(name, fields_given, text) for name, fields_given in content["columns"].items())
    if content.get("outside", "refuse") not in ("refuse", "clip", "impute"):
        raise InputError("refuse, clip or impute", repr(content["outside"]), argument="outside")
    for key in ("target", "unit"):
        if not isinstance(content.get(key, ""), str):
            raise InputError("the name of a column", repr(content[key]), argument=key)
    public = content.get("public", [])
    if not isinstance(public, list) or not all(isinstance(name, str) for name in public):
        raise InputError("a list of column names", f"{public!r:.40}", argument="public")
    rules = content.get("rules", [])
    if not isinstance(rules, list):
        raise InputError(argument="rules", expected='a list of {"if": {COLUMN: [...]}, "then": {COLUMN: [...]}}')
    parsed_rules = [rule for i, entry in enumerate(rules, 1) for rule in parse_rule(entry, i)]
    return Schema(
        columns,
        content.get("outside", "refuse"),
        content.get("unit", ROW),
        tuple(parsed_rules),
        content.get("target"),
        tuple(public),
        _history(content["history"]) if "history" in content else None,
    )


def _parse_json(text: str) -> dict[str, Any]:
    """Parse the top level of a schema, which must have `columns`; InputError if it is invalid."""
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {error.lineno} is not valid JSON ({error.msg}, column {error.colno})", remedy="Correct the line"
        ) from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError("a schema", "numbers with too many digits, or JSON nested too deeply") from error
    if not isinstance(content, dict) or not isinstance(content.get("columns"), dict) or not content["columns"]:
        raise InputError(expected='an object with "columns": {NAME: {"kind": ...}, ...}')
    for key in content:
        if key not in _PARTS:
            raise InputError.unknown_name("part of a schema", key, _PARTS)
    version = content.get("version", 1)
    if type(version) is not int or version < 1:
        raise InputError(f"an integer such as {VERSION}", f"{version!r:.40}", argument="version")
    if version > VERSION:
        raise InputError(
            f"schema version {version} is newer than {VERSION}, the latest supported", remedy="Update feller"
        )
    if not isinstance(content.get("draft", False), bool):
        raise InputError("true or false", f"{content['draft']!r:.40}", argument="draft")
    return content


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise InputError(f"{duplicate!r} occurs twice in one object", remedy="Rename or remove one")
    return dict(pairs)


def _column(name: str, fields_given: Any, text: str) -> Column:
    """Build a column from its fields; errors have its name and line."""
    match = re.search(rf"^\s*{re.escape(json.dumps(name, ensure_ascii=False))}\s*:", text, re.MULTILINE)
    location = f"line {text.count(chr(10), 0, match.end()) + 1}" if match else None
    try:
        if not isinstance(fields_given, dict):
            raise InputError('{"kind": ...}', f"{fields_given!r:.40}")
        kind = fields_given.get("kind")
        if kind not in KINDS:
            raise InputError.unknown_name("kind", kind, KINDS)
        allowed = [entry.name for entry in fields(KINDS[kind]) if entry.name != "name"]  # pyrefly: ignore
        unknown = next((field for field in fields_given if field not in ("kind", *allowed)), None)
        if unknown is not None:
            raise InputError.unknown_name(f"key of {kind} columns", unknown, allowed)
        arguments = {field: _words(value, field) for field, value in fields_given.items() if field != "kind"}
        column = from_dict(Column, {"is": KINDS[kind].__name__, "name": name, **arguments})
    except InputError as error:
        raise error.with_context(place=location, column=name) from error
    return column


def _words(value: Any, field: str) -> Any:
    """Return the value of the schema field `field`, with integers converted to strings where it holds words."""
    if field in _LISTS and not isinstance(value, list):
        raise InputError("a list", f"{value!r:.40}", argument=field)
    if field in ("values", "also_missing") and isinstance(value, list):
        return [str(element) if type(element) is int else element for element in value]
    if field in ("missing", "other", "true", "false", "instead") and type(value) is int:
        return str(value)
    if field == "groups" and isinstance(value, dict):
        return {key: _words(members, "values") for key, members in value.items()}
    if field == "mapping" and isinstance(value, dict):
        return {key: str(element) if type(element) is int else element for key, element in value.items()}
    return value


def _history(entry: Any) -> HistorySchema:
    """Parse {"order": COLUMN, "attributes": [COLUMN, ...], "max_rows": 20, "gap": {"low": 0, "high": 365}}."""
    if not isinstance(entry, dict) or not isinstance(entry.get("gap", {}), dict):
        raise InputError('{"order": COLUMN, "gap": {"low": 0, "high": ...}, ...}', f"{entry!r:.60}", argument="history")
    gap = {"gap": {"name": str(entry.get("order")), **entry["gap"]}} if "gap" in entry else {}
    try:
        return from_dict(HistorySchema, {**entry, **gap})
    except InputError as error:
        raise error.with_context(place="history") from error


def write_schema(schema: Schema, path: pathlib.Path, *, draft: bool = False) -> None:
    """Write a schema file for editing.

    Args:
        schema: Schema to write.
        path: File to write.
        draft: Mark the schema as a draft detected from rows; the user removes the mark after review.
    """
    write_schema_text(schema_text(schema, draft=draft), path)


def write_schema_text(text: str, path: pathlib.Path) -> None:
    """Write the JSON text of a schema; InputError if the path cannot be written."""
    try:
        replace_file(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error})", remedy="Choose another path") from error


def schema_text(schema: Schema, *, draft: bool = False) -> str:
    """Return a schema as JSON, with one column per line or block; `draft` marks it as not yet reviewed by the user."""
    columns = [f"  {_json(column.name)}: {_object(_column_fields(column))}" for column in schema.columns]
    rules = [_json(rule_as_dict(rule)) for rule in schema.rules]
    rule_lines = ",\n  ".join(rules)
    return "\n".join(
        [
            "{",
            f' "version": {VERSION},',
            *([' "draft": true,'] if draft else []),
            f' "unit": {_json(schema.unit)},',
            f' "outside": {_json(schema.outside)},',
            *([] if schema.target is None else [f' "target": {_json(schema.target)},']),
            *([f' "public": {_json(schema.public)},'] if schema.public else []),
            ' "columns": {',
            ",\n".join(columns),
            " },",
            *([] if schema.history is None else [f' "history": {_object(_history_fields(schema.history))},']),
            f' "rules": [\n  {rule_lines}\n ]' if rules else ' "rules": []',
            "}\n",
        ]
    )


def _history_fields(history: HistorySchema) -> dict[str, Any]:
    """Return the fields of a history; `gap` has no name, since it is that of the order column."""
    gap = (
        {}
        if history.gap is None
        else {name: value for name, value in unusual_fields(history.gap).items() if name != "name"}
    )
    return (
        {**unusual_fields(replace(history, gap=None, order=None)), "order": history.order, "gap": gap}
        if gap
        else unusual_fields(history)
    )


def _column_fields(column: Column) -> dict[str, Any]:
    """Return the type and the non-default fields of a column."""
    kind = next(kind for kind, cls in KINDS.items() if type(column) is cls)
    return {"kind": kind, **{name: value for name, value in unusual_fields(column).items() if name != "name"}}


def unusual_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, as JSON values."""
    fields_given: dict[str, Any] = {}
    content = to_dict(value)
    for field in fields(value):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        own_value = getattr(value, field.name)
        if own_value != default:
            fields_given[field.name] = (
                unusual_fields(own_value) if field.name == "form" else _short(content[field.name])
            )
    return fields_given


def _short(value: Any) -> Any:
    """Return numbers for a schema file: whole floats become integers, such as 20.0 to 20."""
    if isinstance(value, list | tuple):
        return [_short(element) for element in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _object(fields_given: dict[str, Any]) -> str:
    """Return an object as JSON text: on one line if it is short, else with one field per line."""
    line = _json(fields_given)
    if len(line) < _ROOM:
        return line
    return "{\n" + ",\n".join(f"   {_json(name)}: {_wrapped(value)}" for name, value in fields_given.items()) + "\n  }"


def _wrapped(value: Any) -> str:
    if not isinstance(value, list | dict) or len(_json(value)) < _ROOM:
        return _json(value)
    items = (
        [f"{_json(k)}: {_json(v)}" for k, v in value.items()] if isinstance(value, dict) else list(map(_json, value))
    )
    lines = [""]
    for i, item in enumerate(items):
        piece = item + ("," if i + 1 < len(items) else "")
        lines = [*lines[:-1], f"{lines[-1]} {piece}"] if len(lines[-1]) + len(piece) < _ROOM else [*lines, f" {piece}"]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return opening + "\n".join(f"    {line[1:]}" if i else line[1:] for i, line in enumerate(lines)) + closing
