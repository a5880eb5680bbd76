"""Migrations of run folders: older formats are converted on reading; newer formats raise an error.

`renames.json` lists the renames after each format. `classes` maps an old name to new names, of which the expected type
selects one. `fields` maps a current class to (old field -> new field), and `attributes` does the same for modules with
weights. `flags` maps an old flag to a new flag, or to (current class with the field -> new flag). A record of an older
format keeps its names until it is decoded, when types are known. docs/reference/run-folder.md states how long formats
remain readable.
"""

import functools
import json
import pathlib
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from feller import __version__
from feller.core.errors import InputError

Record = dict[str, Any]
Migration = Callable[[str, Record], Record]
"""Function (name of a JSON file of a run, its content) -> content converted to the next newer format."""
_LAST, _OFF = re.compile(r"(--|\.)([^.]*)$"), re.compile(r"(--|\.)no-([^.]*)$")
"""Patterns of the last part of a flag, and of the last part of a negated flag (`--a.no-b`)."""
UNSTAMPED = 3
"""Format assumed for files without a format number; hashes are computed from the class and field names of this
format."""


@functools.cache
def renames() -> dict[int, dict[str, Any]]:
    """Return the tables of `renames.json` by format number, oldest first; each lists the renames after its format."""
    tables = json.loads(pathlib.Path(__file__).with_name("renames.json").read_text(encoding="utf-8"))
    return {int(key): tables[key] for key in sorted(tables, key=int)}


def _since(format_number: int, section: str) -> list[dict[str, Any]]:
    """Return the tables of renames of one section, such as "classes", for all formats from `format_number` on."""
    return [table[section] for number, table in renames().items() if number >= format_number]


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "feller"


def _of_class(table: dict[str, Any], cls: type) -> dict[str, str]:
    """Return the field renames (old name -> new name) of a class, including those of its base classes in feller."""
    bases = [base.__name__ for base in reversed(cls.__mro__) if _is_ours(base)]
    return {old: new for name in bases for old, new in table.get(name, {}).items()}


class Older(dict[str, Any]):
    """Record, or part of a record, with the class and field names of an older format."""

    written: int
    """Format number of the record."""

    @staticmethod
    def of(value: Any, written: Any) -> Any:
        """Wrap all records inside a value as `Older` if their format, `written`, is older than the current format."""
        if not isinstance(written, int) or written >= current_format():
            return value
        if isinstance(value, list):
            return [Older.of(child, written) for child in value]
        if not isinstance(value, dict):
            return value
        record = Older({key: Older.of(child, written) for key, child in value.items()})
        record.written = written
        return record

    def name_among(self, name: Any, kinds: dict[str, type]) -> Any:
        """Return the current name of a class (a key of `kinds`), given its old name; user classes keep their names."""
        if not isinstance(name, str) or (name in kinds and not _is_ours(kinds[name])):
            return name
        return next((candidate for candidate in _names_now([name], self.written) if candidate in kinds), name)

    def fields_of(self, kind: type) -> Record:
        """Return the record with the current field names of a class.

        Raises:
            InputError: If two keys map to the same current field.
        """
        own_fields = () if _is_ours(kind) else getattr(kind, "__annotations__", ())
        record: Record = {}
        for key, value in self.items():
            for table in () if key in own_fields else _since(self.written, "fields"):
                key = _of_class(table, kind).get(key, key)
            if key in record:
                raise InputError(
                    f"one value for the field {key!r} of {kind.__name__}", "two, under its old and new names"
                )
            record[key] = value
        return record

    def key_of(self, field: str) -> str:
        """Return the key under which the record stores a field, given the field's current name in any class."""
        older_names = {field}
        for table in reversed(_since(self.written, "fields")):
            older_names |= {old for names in table.values() for old, new in names.items() if new in older_names}
        return next((key for key in self if key in older_names - {field}), field)


def _names_now(names: list[str], format_number: int) -> list[str]:
    """Return the names that classes named `names` in run format `format_number` may have now.

    A class may have been split into several: its new names come first, then the unchanged name.
    """
    for table in _since(format_number, "classes"):
        names = [current for name in names for current in (*table.get(name, ()), name)]
    return names


def names_before(module: Any, names: Iterable[str], written: int = UNSTAMPED) -> dict[str, str]:
    """Map the current parameter names of a network to their names in the older format `written`."""
    return {name: _name_before(module, name.split("."), written) for name in names}


def _name_before(module: Any, parts: list[str], format_number: int) -> str:
    """Return an older parameter name, translated part by part.

    A module in `named_by` names its parameters after those of a network, with slashes instead of dots.
    """
    older_parts, network = [], None
    for part in parts:
        if network is not None:
            part = _name_before(network, part.split("/"), format_number).replace(".", "/")
        submodule = getattr(module, "_modules", {}).get(part)
        network = next((source for child, source in getattr(module, "named_by", ()) if child is submodule), None)
        for table in reversed(_since(format_number, "attributes")):
            part = {new: old for old, new in _of_class(table, type(module)).items()}.get(part, part)
        older_parts.append(part)
        module = submodule
    return ".".join(older_parts)


def formats_before() -> range:
    """Return the readable older formats, newest first."""
    return range(current_format() - 1, OLDEST_FORMAT - 1, -1)


def repr_before(value: Any) -> str:
    """Return the `repr` of a value with the class and field names of format `UNSTAMPED`, so that hashes stay valid."""
    if type(value) in (tuple, list) and any(is_dataclass(cls) or cls in (tuple, list) for cls in {*map(type, value)}):
        elements = ", ".join(map(repr_before, value))
        return f"[{elements}]" if type(value) is list else f"({elements},)" if len(value) == 1 else f"({elements})"
    if not is_dataclass(value) or isinstance(value, type) or not _is_ours(type(value)):
        return repr(value)
    cls = type(value)
    field_reprs = {field.name: repr_before(getattr(value, field.name)) for field in fields(value) if field.repr}
    class_name = cls.__qualname__
    for table in reversed(_since(UNSTAMPED, "classes")):
        class_name = next((old for old, new_names in table.items() if class_name in new_names), class_name)
    for table in reversed(_since(UNSTAMPED, "fields")):
        older_fields = {new: old for old, new in _of_class(table, cls).items()}
        field_reprs = {older_fields.get(name, name): text for name, text in field_reprs.items()}
    return f"{class_name}({', '.join(f'{name}={text}' for name, text in field_reprs.items())})"


def with_flags(name: str, content: Record, written: int) -> Record:
    """Rename the options and flags in `recipe.json` from the format `written` to the next newer format."""
    flags = renames()[written]["flags"]
    if name != "recipe.json" or not flags:
        return content
    recipe = content.get("recipe")

    def rename_fields(value: Record) -> Record:
        field_flags = value.get("fields")
        if not isinstance(field_flags, list):
            return value
        return {**value, "fields": [_word_now(flag, flags, recipe, written) for flag in field_flags]}

    content = _map_records(content, rename_fields)
    if isinstance(config := content.get("config"), dict):
        options = {key: _word_now(f"--{key.replace('_', '-')}", flags, None, written) for key in config}
        config = {options[key].removeprefix("--").replace("-", "_"): value for key, value in config.items()}
        content = {**content, "config": config}
    return content


def _word_now(argument: Any, flags: dict[str, Any], recipe: Any, format_number: int) -> Any:
    """Return the command-line flag `argument` with its current name, and with its `=value` if it has one.

    A negated flag (`--a.no-b`) stays negated; unknown flags are unchanged.
    """
    if not isinstance(argument, str) or not argument.startswith("--"):
        return argument
    flag, separator, value = argument.partition("=")
    flag = flag.replace("_", "-")
    positive = flag if flag in flags else _OFF.sub(r"\1\2", flag)
    new_flag = flags.get(positive)
    if isinstance(new_flag, dict):  # the new name depends on the class of the field
        *names, _ = positive.removeprefix("--").replace("-", "_").split(".")
        for name in names:
            recipe = recipe.get(name) if isinstance(recipe, dict) else None
        class_name = recipe.get("is") if isinstance(recipe, dict) else None
        new_flag = next(
            (new_flag[cls] for cls in _names_now([str(class_name)], format_number) if cls in new_flag), None
        )
    if new_flag is None:
        return argument
    new_flag = new_flag if positive == flag else _LAST.sub(r"\1no-\2", new_flag)
    return f"{new_flag}{separator}{value}"


_FAMILIES = (
    *("Alike", "AnyOrder", "Autoregressive", "Codes", "Estimates", "Filled", "Graphical", "Interleaved"),
    "Resynthesis",
)
"""Names of the path classes in format 1 that represented model families without a process."""


def add_families(name: str, content: Record) -> Record:
    """Migrate to format 2: replace paths that represented model families by a `family`."""
    content = {key: _map_records(value, _without_families) for key, value in content.items()}
    if name != "model.json" or not isinstance(path := content.get("path"), dict):
        return content
    model = {key: value for key, value in content.items() if key != "path"}
    if path.get("is") in _FAMILIES:
        return {**model, "family": path}
    return {**model, "family": {"is": "BridgeProcess" if path.get("is") == "Brownian" else "PathProcess", "path": path}}


def _map_records(value: Any, function: Callable[[Record], Record]) -> Any:
    if isinstance(value, list):
        return [_map_records(child, function) for child in value]
    if not isinstance(value, dict):
        return value
    return function({key: _map_records(child, function) for key, child in value.items()})


def _without_families(record: Record) -> Record:
    """Remove a path that represented a model family from a record of a class."""
    path = record.get("path") if "is" in record else None
    if not isinstance(path, dict) or path.get("is") not in _FAMILIES:
        return record
    if path["is"] == "Filled":
        return {**record, "path": None}
    remaining = {key: value for key, value in record.items() if key != "path"}
    return {**remaining, "target": path.get("about")} if path["is"] == "Estimates" else remaining


_OPTIONS = (
    *("data", "recipe", "size", "seed", "longest", "space", "project", "vocabulary", "modality", "tokenizer", "schema"),
    *("target", "start_from"),
)
"""Names of the fit options in the record `asked` of format 2, which also holds derived values."""


def to_format_3(name: str, content: Record) -> Record:
    """Migrate to format 3: separate fit options from derived values."""
    content = with_flags(name, content, 2)
    options = content.get("asked")
    if name != "recipe.json" or not isinstance(options, dict):
        return content
    config = {key: options[key] for key in _OPTIONS if options.get(key)}
    private, watched = options.get("private"), options.get("watched")
    if isinstance(private, dict):
        by_noise = {"noise": private.get("sigma"), "stop_at_epsilon": private.get("epsilon")}
        budget = by_noise if private.get("by_noise") else {"epsilon": private.get("epsilon")}
        privacy_options = {**budget, "delta": private.get("delta"), "unsafe_seed": private.get("unsafe_seed")}
        config |= {key: value for key, value in privacy_options.items() if value is not None}
    config |= {"audit": [f"fisher={watched}"]} if watched else {}
    provenance = {key: value for key, value in options.items() if key not in (*_OPTIONS, "watched")}
    provenance |= {key: options[key] for key in ("recipe", "size") if key in options}
    remaining = {key: value for key, value in content.items() if key != "asked"}
    return {"config": config, "provenance": provenance, **remaining}


def to_format_4(name: str, content: Record) -> Record:
    """Migrate to format 4: rename flags and options."""
    return with_flags(name, content, 3)


OLDEST_FORMAT = 1
"""Oldest readable format."""
MIGRATIONS: tuple[Migration, ...] = (add_families, to_format_3, to_format_4)
"""Migrations from each format to the next one, oldest first.

Whoever changes the contents of files must add a migration here and a run of the previous format to
tests/safety/formats."""


def current_format() -> int:
    """Return the format number of newly written files."""
    return OLDEST_FORMAT + len(MIGRATIONS)


def migrate(name: str, content: Record) -> Record:
    """Return the content of a run file, migrated from its `format` to the current one.

    Raises:
        InputError: If the format number is missing, invalid or newer than the current one.
    """
    found_format = content.get("format")
    if not isinstance(found_format, int) or isinstance(found_format, bool) or found_format < OLDEST_FORMAT:
        raise InputError(f"a run file with an integer `format` of at least {OLDEST_FORMAT}", repr(found_format))
    if not isinstance(content.get("version", ""), str):
        raise InputError("a run file with a string `version`", repr(content["version"]))
    if found_format > current_format():
        writer = str(content.get("version"))[:20]
        raise InputError(
            f"format {current_format()} or older, as supported by feller {__version__}",
            f"format {found_format}, written by feller {writer}",
            "Upgrade feller",
        )
    record = {key: value for key, value in content.items() if key not in ("format", "version")}
    for migration in MIGRATIONS[found_format - OLDEST_FORMAT :]:
        record = migration(name, record)
    return Older.of(record, found_format)


def format_of(content: Record) -> int:
    """Return the format number to write with a record: the oldest format among its parts."""
    return min((value.written for value in content.values() if isinstance(value, Older)), default=current_format())
