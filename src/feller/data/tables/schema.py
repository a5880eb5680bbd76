"""Schema of a table: columns and allowed cells, as JSON."""

import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, replace_file, to_dict
from feller.data.loading.raw import error_context
from feller.data.tables.column import Boolean, Categorical, Column, ModelledColumn
from feller.data.tables.constraints import Constraint, Pair, compile_rules
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.unmodelled_columns import Derived, FreeText, HiddenColumn, Identifier

ROW = "row"
"""The unit of a table in which each row is one person's, and all of theirs."""
MOST_SOURCES = 10_000
"""Numbers from which a column may be derived, at most."""


@dataclass(frozen=True)
class Schema:
    """All columns of a table in their order."""

    columns: tuple[Column, ...]
    outside: Literal["refuse", "clip", "impute"] = "refuse"
    """What is done with a cell that its column may not hold, and a row that breaks a rule; `impute` clips, and takes a
    usual cell for one that is near nothing."""
    unit: str = ROW
    """What privacy is given to: `row`, each of which is one person's, and all of theirs; or the column that tells
    people apart, of each of whom the first row is learned."""
    rules: tuple[Constraint, ...] = ()
    target: str | None = None
    """Column that others are used to tell, by which reports judge what a table is worth; by default the last."""

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two columns are called {twice!r}", remedy="Rename one")
        if any(not name or name != name.strip() for name in names):
            raise InputError("every column has a name, without blanks around it", remedy="Give it one")
        if self.unit != ROW and not any(isinstance(c, Identifier) and c.name == self.unit for c in self.columns):
            raise InputError(
                f'the unit "{ROW}", or the identifier that tells people apart',
                repr(self.unit),
                "Describe that column as an identifier",
            )
        if not self.modelled:
            raise InputError(
                "no column is left that a model could learn", remedy="Describe one as categorical or numerical"
            )
        for column in self.columns:
            if isinstance(column, Derived):
                self._check_derived(column)
        _ = self.pairs, self.target_index

    def to_dict(self) -> dict[str, object]:
        """Return it as its JSON holds it."""
        return json.loads(schema_text(self))

    @staticmethod
    def from_dict(content: "Mapping[str, object]") -> "Schema":
        """Return the schema that a dict holds; InputError if it is none."""
        return schema_of(content)

    @property
    def clips(self) -> bool:
        """Whether cells that their columns may not hold are taken for others."""
        return self.outside != "refuse"

    @cached_property
    def modelled(self) -> tuple[ModelledColumn, ...]:
        """The columns with codes."""
        return tuple(column for column in self.columns if isinstance(column, ModelledColumn))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def hidden_names(self) -> tuple[str, ...]:
        """Names of the columns that noise could not tell, which no row that is made has."""
        return tuple(column.name for column in self.columns if isinstance(column, HiddenColumn))

    @property
    def written_columns(self) -> tuple[Column, ...]:
        """The columns of rows that are made."""
        return tuple(column for column in self.columns if not isinstance(column, HiddenColumn))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of codes of each modelled column."""
        return tuple(column.num_codes for column in self.modelled)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The rules as tables over codes of two modelled columns, which form a forest."""
        return compile_rules(self.rules, self.modelled)

    @cached_property
    def target_index(self) -> int:
        """Place of the target among the modelled columns."""
        return len(self.modelled) - 1 if self.target is None else self.place(self.target)

    def place(self, name: str) -> int:
        """Return the place of a column among those modelled; InputError if there is none of that name."""
        known = [column.name for column in self.modelled]
        if name not in known:
            raise InputError.unknown_name("column", name, known)
        return known.index(name)

    def _check_derived(self, column: Derived) -> None:
        source = next((other for other in self.modelled if other.name == column.source), None)
        if not isinstance(source, Categorical | Boolean | Numerical):
            raise InputError.unknown_name(
                "source", column.source, [other.name for other in self.modelled]
            ).with_context(column=column.name)
        lacking = next((cell for cell in _possible_cells(source) if cell not in column.mapping), None)
        if lacking is not None:
            raise InputError(
                f"the mapping says nothing for {source.name} = {lacking!r}", remedy="Add it", column=column.name
            )


def _possible_cells(column: Categorical | Boolean | Numerical) -> Iterator[str]:
    """Yield all cells that a column can have."""
    if isinstance(column, Numerical):
        first, last = column.levels.starts[0], column.levels.last
        if last - first >= MOST_SOURCES:
            raise InputError("has too many numbers for another to follow from each of them", column=column.name)
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
    "untold": HiddenColumn,
}
"""What a schema calls each kind of column."""
VERSION = 2
"""Of the form of the file; 1 had no word for a draft, and did not say so."""
_PARTS = ("version", "draft", "unit", "outside", "target", "columns", "rules")
_LISTS = ("values", "edges", "heavy", "also_missing")
_ROOM = 116


def schema_of(source: object) -> Schema:
    """Return a schema: itself, that of a file, or that of a dict as its JSON holds it.

    Raises:
        InputError: If the file or the dict is none; names the column and its field.
        UsageError: If it is anything else.
    """
    if isinstance(source, Schema):
        return source
    if isinstance(source, str | os.PathLike):
        return read_schema(pathlib.Path(source))
    return parse_schema(text_of_schema(source))


def text_of_schema(source: object) -> str:
    """Return a schema in memory as JSON; UsageError if it is none."""
    if isinstance(source, Schema):
        return schema_text(source)
    if isinstance(source, Mapping):
        try:
            return json.dumps(dict(source), ensure_ascii=False, default=_plain_number)
        except (TypeError, ValueError) as error:
            raise UsageError(
                argument="schema", expected="a dict of words, numbers and lists, as JSON holds them", found=str(error)
            ) from error
    raise UsageError(
        argument="schema",
        expected="a file, a dict, or a feller.Schema",
        found=type(source).__name__,
        remedy="feller.infer_schema(df) returns a dict to go through",
    )


def _plain_number(value: Any) -> Any:
    """Return a number of NumPy as one of Python."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")


def read_schema(path: pathlib.Path) -> Schema:
    """Read a schema; InputError if the file is none; names the line, or the column and its field."""
    with error_context(path):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror or error}); `feller data schema` writes one") from error
        except UnicodeDecodeError as error:
            raise InputError("a schema in UTF-8", f"byte {error.object[error.start]:#04x}") from error
        return parse_schema(text)


def is_draft(path: pathlib.Path) -> bool:
    """Tell whether a schema, which can be read, is still marked as guessed from the rows."""
    with error_context(path):
        return _parse_json(path.read_text(encoding="utf-8-sig")).get("draft", False)


def parse_schema(text: str) -> Schema:
    """Turn JSON into a schema; InputError if it is none; names the line, or the column and its field."""
    plain = _parse_json(text)
    columns = tuple(_column(name, fields_given, text) for name, fields_given in plain["columns"].items())
    if plain.get("outside", "refuse") not in ("refuse", "clip", "impute"):
        raise InputError("refuse, clip or impute", repr(plain["outside"]), argument="outside")
    for part in ("target", "unit"):
        if not isinstance(plain.get(part, ""), str):
            raise InputError("the name of a column", repr(plain[part]), argument=part)
    rules = plain.get("rules", [])
    if not isinstance(rules, list):
        raise InputError(argument="rules", expected='a list of {"if": {COLUMN: [...]}, "then": {COLUMN: [...]}}')
    return Schema(
        columns,
        plain.get("outside", "refuse"),
        plain.get("unit", ROW),
        tuple(map(_rule, rules, range(1, 1 + len(rules)))),
        plain.get("target"),
    )


def _parse_json(text: str) -> dict[str, Any]:
    """Read an object with parts that a schema may have, of which the columns are there; InputError if it is none."""
    try:
        plain = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {error.lineno} is no JSON ({error.msg}, column {error.colno})", remedy="Mend it"
        ) from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError("a schema", "numbers of endless digits, or JSON inside JSON without end") from error
    if not isinstance(plain, dict) or not isinstance(plain.get("columns"), dict) or not plain["columns"]:
        raise InputError(expected='an object with "columns": {NAME: {"kind": ...}, ...}')
    for part in plain:
        if part not in _PARTS:
            raise InputError.unknown_name("part of a schema", part, _PARTS)
    version = plain.get("version", 1)
    if type(version) is not int or version < 1:
        raise InputError(f"a whole number such as {VERSION}", f"{version!r:.40}", argument="version")
    if version > VERSION:
        raise InputError(
            f"version {version} of schemas is newer than this feller, which reads {VERSION}", remedy="Update it"
        )
    if not isinstance(plain.get("draft", False), bool):
        raise InputError("true or false", f"{plain['draft']!r:.40}", argument="draft")
    return plain


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice!r} stands twice in one object", remedy="Rename or remove one")
    return dict(pairs)


def _column(name: str, fields_given: Any, text: str) -> Column:
    """Build a column; its errors name it and its line."""
    line = re.search(rf"^\s*{re.escape(json.dumps(name, ensure_ascii=False))}\s*:", text, re.MULTILINE)
    where = f"line {text.count(chr(10), 0, line.end()) + 1}" if line else None
    try:
        if not isinstance(fields_given, dict):
            raise InputError('{"kind": ...}', f"{fields_given!r:.40}")
        kind = fields_given.get("kind")
        if kind not in KINDS:
            raise InputError.unknown_name("kind", kind, KINDS)
        known = [each.name for each in fields(KINDS[kind]) if each.name != "name"]  # pyrefly: ignore
        strange = next((field for field in fields_given if field not in ("kind", *known)), None)
        if strange is not None:
            raise InputError.unknown_name(f"key of {kind} columns", strange, known)
        rest = {field: _words(value, field) for field, value in fields_given.items() if field != "kind"}
        column = from_dict(Column, {"is": KINDS[kind].__name__, "name": name, **rest})
    except InputError as error:
        raise error.with_context(place=where, column=name) from error
    return column


def _words(value: Any, field: str) -> Any:
    """Take whole numbers for words where words are meant: 1 means "1"."""
    if field in _LISTS and not isinstance(value, list):
        raise InputError("a list", f"{value!r:.40}", argument=field)
    if field in ("values", "also_missing") and isinstance(value, list):
        return [str(each) if type(each) is int else each for each in value]
    if field in ("missing", "other", "true", "false", "instead") and type(value) is int:
        return str(value)
    if field == "mapping" and isinstance(value, dict):
        return {key: str(each) if type(each) is int else each for key, each in value.items()}
    return value


def _rule(entry: Any, number: int) -> Constraint:
    """Build a rule from {"if": {COLUMN: [...]}, "then": {COLUMN: [...]}}."""
    with error_context(place=f"rule {number}"):
        parts = [entry.get(part) if isinstance(entry, dict) else None for part in ("if", "then")]
        if (
            not isinstance(entry, dict)
            or len(entry) != 2
            or not all(isinstance(p, dict) and len(p) == 1 for p in parts)
        ):
            raise InputError('{"if": {COLUMN: [...]}, "then": {COLUMN: [...]}}', f"{entry!r:.60}")
        (when, among), (then, only) = (next(iter(part.items())) for part in parts if part)
        lists = [_words(each if isinstance(each, list) else [each], "values") for each in (among, only)]
        if not all(isinstance(word, str) for words in lists for word in words):
            raise InputError('words or comparisons such as "< 15"', f"{entry!r:.60}")
        return Constraint(when, tuple(lists[0]), then, tuple(lists[1]))


def write_schema(schema: Schema, path: pathlib.Path, *, draft: bool = False) -> None:
    """Write a schema for people to edit.

    Args:
        schema: What it says.
        path: Where.
        draft: Whether it was guessed from rows; the file says so until its owner takes that line out.
    """
    try:
        replace_file(path, schema_text(schema, draft=draft))
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error})", remedy="Name another place") from error


def schema_text(schema: Schema, *, draft: bool = False) -> str:
    """Return a schema as JSON, a column in each line or block."""
    columns = [f"  {_json(column.name)}: {_object(_column_fields(column))}" for column in schema.columns]
    rules = [_json({"if": {r.when: list(r.among)}, "then": {r.then: list(r.only)}}) for r in schema.rules]
    listed = ",\n  ".join(rules)
    return "\n".join(
        [
            "{",
            f' "version": {VERSION},',
            *([' "draft": true,'] if draft else []),
            f' "unit": {_json(schema.unit)},',
            f' "outside": {_json(schema.outside)},',
            *([] if schema.target is None else [f' "target": {_json(schema.target)},']),
            ' "columns": {',
            ",\n".join(columns),
            " },",
            f' "rules": [\n  {listed}\n ]' if rules else ' "rules": []',
            "}\n",
        ]
    )


def _column_fields(column: Column) -> dict[str, Any]:
    """Return the kind and the fields of a column that are not what they are by default."""
    kind = next(kind for kind, cls in KINDS.items() if type(column) is cls)
    return {"kind": kind, **{name: value for name, value in _unusual(column).items() if name != "name"}}


def _unusual(value: Any) -> dict[str, Any]:
    fields_given: dict[str, Any] = {}
    plain = to_dict(value)
    for each in fields(value):
        usual = each.default_factory() if each.default_factory is not MISSING else each.default
        own_value = getattr(value, each.name)
        if own_value != usual:
            fields_given[each.name] = _unusual(own_value) if each.name == "form" else _short(plain[each.name])
    return fields_given


def _short(value: Any) -> Any:
    """Write 20 for 20.0."""
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _object(fields_given: dict[str, Any]) -> str:
    """Write an object in one line, or where it is long, a field in each, lists and mappings in several."""
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
