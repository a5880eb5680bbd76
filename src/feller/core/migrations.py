"""Formats of run folders: older ones are brought to the present one when they are read, newer ones are refused.

What was only renamed since a format stands in `renames.json`, by that format: `classes` (old name -> new ones, of which
the one of the expected type is meant), `fields` (class of now -> old field -> new), `attributes` of modules that hold
weights (alike) and `flags` (old word -> new, or class of now that has the field -> new). A record of an older format
keeps its names until it is decoded, where types are known. How long formats are read is promised in docs/safety.md.
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
"""(name of a JSON file of a run, what it holds) -> what it would hold in the next format."""
_LAST, _OFF = re.compile(r"(--|\.)([^.]*)$"), re.compile(r"(--|\.)no-([^.]*)$")
"""The last part of a flag, and that of one that turns a field off."""
UNSTAMPED = 3
"""Format of files without a number of one, and of the names that hashes are of."""


@functools.cache
def renames() -> dict[int, dict[str, Any]]:
    """Return what was renamed after each format, the oldest first."""
    held = json.loads(pathlib.Path(__file__).with_name("renames.json").read_text(encoding="utf-8"))
    return {int(written): held[written] for written in sorted(held, key=int)}


def _since(written: int, what: str) -> list[dict[str, Any]]:
    """Return what was renamed after a format and after each later one."""
    return [table[what] for each, table in renames().items() if each >= written]


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "feller"


def _of_class(table: dict[str, Any], kind: type) -> dict[str, str]:
    """Return what was renamed of a class and of its bases in feller."""
    bases = [base.__name__ for base in reversed(kind.__mro__) if _is_ours(base)]
    return {old: new for name in bases for old, new in table.get(name, {}).items()}


class Older(dict[str, Any]):
    """A record, or a part of one, with the names of an older format."""

    written: int
    """The format."""

    @staticmethod
    def of(value: Any, written: Any) -> Any:
        """Mark all records that a value holds, where a format is an older one."""
        if not isinstance(written, int) or written >= current_format():
            return value
        if isinstance(value, list):
            return [Older.of(each, written) for each in value]
        if not isinstance(value, dict):
            return value
        record = Older({key: Older.of(each, written) for key, each in value.items()})
        record.written = written
        return record

    def name_among(self, name: Any, kinds: dict[str, type]) -> Any:
        """Return what a class is called now that is one of some; the user's own are called as they were."""
        if not isinstance(name, str) or (name in kinds and not _is_ours(kinds[name])):
            return name
        return next((each for each in _names_now([name], self.written) if each in kinds), name)

    def fields_of(self, kind: type) -> Record:
        """Return the fields by the names that a class has for them now.

        Raises:
            InputError: If two are one by now.
        """
        own = () if _is_ours(kind) else getattr(kind, "__annotations__", ())
        found: Record = {}
        for key, value in self.items():
            for table in () if key in own else _since(self.written, "fields"):
                key = _of_class(table, kind).get(key, key)
            if key in found:
                raise InputError(f"the field {key!r} of {kind.__name__} once", "it twice, under two names")
            found[key] = value
        return found

    def key_of(self, field: str) -> str:
        """Return the key of a field by its name of now, whatever class has it."""
        before = {field}
        for table in reversed(_since(self.written, "fields")):
            before |= {old for names in table.values() for old, new in names.items() if new in before}
        return next((key for key in self if key in before - {field}), field)


def _names_now(names: list[str], written: int) -> list[str]:
    """Return what classes may be called now that were called so, what was renamed first."""
    for table in _since(written, "classes"):
        names = [each for name in names for each in (*table.get(name, ()), name)]
    return names


def names_before(module: Any, names: Iterable[str], written: int = UNSTAMPED) -> dict[str, str]:
    """Return what the weights of a network were called in a format, by their names of now."""
    return {name: _name_before(module, name.split("."), written) for name in names}


def _name_before(module: Any, words: list[str], written: int) -> str:
    """Walk along a name; dicts of what belongs to the weights of a network have the names of these, with slashes."""
    before, network = [], None
    for word in words:
        if network is not None:
            word = _name_before(network, word.split("/"), written).replace(".", "/")
        inner = getattr(module, "_modules", {}).get(word)
        network = next((one for held, one in getattr(module, "named_by", ()) if held is inner), None)
        for table in reversed(_since(written, "attributes")):
            word = {new: old for old, new in _of_class(table, type(module)).items()}.get(word, word)
        before.append(word)
        module = inner
    return ".".join(before)


def formats_before() -> range:
    """Return the older formats, the newest first."""
    return range(current_format() - 1, OLDEST_FORMAT - 1, -1)


def repr_before(value: Any) -> str:
    """Return the `repr` of a value as it was before names changed, for hashes of it."""
    if type(value) in (tuple, list) and any(
        is_dataclass(kind) or kind in (tuple, list) for kind in {*map(type, value)}
    ):
        inner = ", ".join(map(repr_before, value))
        return f"[{inner}]" if type(value) is list else f"({inner},)" if len(value) == 1 else f"({inner})"
    if not is_dataclass(value) or isinstance(value, type) or not _is_ours(type(value)):
        return repr(value)
    kind, told = type(value), {one.name: repr_before(getattr(value, one.name)) for one in fields(value) if one.repr}
    name = kind.__qualname__
    for table in reversed(_since(UNSTAMPED, "classes")):
        name = next((old for old, now in table.items() if name in now), name)
    for table in reversed(_since(UNSTAMPED, "fields")):
        before = {new: old for old, new in _of_class(table, kind).items()}
        told = {before.get(field, field): each for field, each in told.items()}
    return f"{name}({', '.join(f'{field}={each}' for field, each in told.items())})"


def with_flags(name: str, content: Record, written: int) -> Record:
    """Rename options, and words that set fields, as after a format."""
    flags = renames()[written]["flags"]
    if name != "recipe.json" or not flags:
        return content
    recipe = content.get("recipe")

    def renamed(value: Record) -> Record:
        words = value.get("fields")
        if not isinstance(words, list):
            return value
        return {**value, "fields": [_word_now(word, flags, recipe, written) for word in words]}

    content = _map_records(content, renamed)
    if isinstance(config := content.get("config"), dict):
        options = {key: _word_now(f"--{key.replace('_', '-')}", flags, None, written) for key in config}
        config = {options[key].removeprefix("--").replace("-", "_"): value for key, value in config.items()}
        content = {**content, "config": config}
    return content


def _word_now(word: Any, flags: dict[str, Any], recipe: Any, written: int) -> Any:
    """Return a word as it is now, with what follows `=`; what turns a field off has `no-` before its last part."""
    if not isinstance(word, str) or not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    flag = flag.replace("_", "-")
    plain = flag if flag in flags else _OFF.sub(r"\1\2", flag)
    now = flags.get(plain)
    if isinstance(now, dict):  # the field's name depends on the class that has it
        *names, _ = plain.removeprefix("--").replace("-", "_").split(".")
        for name in names:
            recipe = recipe.get(name) if isinstance(recipe, dict) else None
        kind = recipe.get("is") if isinstance(recipe, dict) else None
        now = next((now[each] for each in _names_now([str(kind)], written) if each in now), None)
    if now is None:
        return word
    now = now if plain == flag else _LAST.sub(r"\1no-\2", now)
    return f"{now}{equals}{value}"


_FAMILIES = (
    *("Alike", "AnyOrder", "Autoregressive", "Codes", "Estimates", "Filled", "Graphical", "Interleaved"),
    "Resynthesis",
)
"""Paths without time, each of which stood for a family of models."""


def add_families(name: str, content: Record) -> Record:
    """Record the family of a model, where a path stood for it, and no such path in objectives."""
    content = {key: _map_records(value, _without_families) for key, value in content.items()}
    if name != "model.json" or not isinstance(path := content.get("path"), dict):
        return content
    rest = {key: value for key, value in content.items() if key != "path"}
    if path.get("is") in _FAMILIES:
        return {**rest, "family": path}
    return {**rest, "family": {"is": "BridgeProcess" if path.get("is") == "Brownian" else "PathProcess", "path": path}}


def _map_records(value: Any, function: Callable[[Record], Record]) -> Any:
    """Change all records that a value holds, the innermost first."""
    if isinstance(value, list):
        return [_map_records(each, function) for each in value]
    if not isinstance(value, dict):
        return value
    return function({key: _map_records(each, function) for key, each in value.items()})


def _without_families(value: Record) -> Record:
    """Take a path that stood for a family out of a record with an `is`."""
    path = value.get("path") if "is" in value else None
    if not isinstance(path, dict) or path.get("is") not in _FAMILIES:
        return value
    if path["is"] == "Filled":
        return {**value, "path": None}
    rest = {key: each for key, each in value.items() if key != "path"}
    return {**rest, "target": path.get("about")} if path["is"] == "Estimates" else rest


_OPTIONS = (
    *("data", "recipe", "size", "seed", "longest", "space", "project", "vocabulary", "modality", "tokenizer", "schema"),
    *("target", "start_from"),
)
"""Options of a fit, as `asked` held them beside what was found out."""


def to_format_3(name: str, content: Record) -> Record:
    """Record the options of a fit apart from what was found out."""
    content = with_flags(name, content, 2)
    options = content.get("asked")
    if name != "recipe.json" or not isinstance(options, dict):
        return content
    config = {key: options[key] for key in _OPTIONS if options.get(key)}
    private, watched = options.get("private"), options.get("watched")
    if isinstance(private, dict):
        by_noise = {"noise": private.get("sigma"), "stop_at_epsilon": private.get("epsilon")}
        budget = by_noise if private.get("by_noise") else {"epsilon": private.get("epsilon")}
        more = {**budget, "delta": private.get("delta"), "unsafe_seed": private.get("unsafe_seed")}
        config |= {key: value for key, value in more.items() if value is not None}
    config |= {"audit": [f"fisher={watched}"]} if watched else {}
    provenance = {key: value for key, value in options.items() if key not in (*_OPTIONS, "watched")}
    provenance |= {key: options[key] for key in ("recipe", "size") if key in options}
    rest = {key: value for key, value in content.items() if key != "asked"}
    return {"config": config, "provenance": provenance, **rest}


def to_format_4(name: str, content: Record) -> Record:
    """Record flags and options by their names of now."""
    return with_flags(name, content, 3)


OLDEST_FORMAT = 1
"""The oldest format that is read."""
MIGRATIONS: tuple[Migration, ...] = (add_families, to_format_3, to_format_4)
"""From each format to the next, the oldest first. Who changes what a file holds adds one here, and keeps a run of the
format before in tests/safety/formats."""


def current_format() -> int:
    """Return the format that is written."""
    return OLDEST_FORMAT + len(MIGRATIONS)


def migrate(name: str, content: Record) -> Record:
    """Return what a file of a run holds, in the present format; its `format` says in which it is.

    Raises:
        InputError: If that is none, or one that is not read.
    """
    version_found = content.get("format")
    if not isinstance(version_found, int) or isinstance(version_found, bool) or version_found < OLDEST_FORMAT:
        raise InputError(f"a file of a run, an object with a number `format` from {OLDEST_FORMAT}", repr(version_found))
    if not isinstance(content.get("version", ""), str):
        raise InputError("a file of a run, with text as its `version`", repr(content["version"]))
    if version_found > current_format():
        by = str(content.get("version"))[:20]
        raise InputError(
            f"format {current_format()} or older, which feller {__version__} reads",
            f"{version_found}, of feller {by}",
            "Upgrade feller",
        )
    rest = {key: value for key, value in content.items() if key not in ("format", "version")}
    for change in MIGRATIONS[version_found - OLDEST_FORMAT :]:
        rest = change(name, rest)
    return Older.of(rest, version_found)


def format_of(content: Record) -> int:
    """Return the format of a record that is to be written: parts that were read of an older one keep their names."""
    return min((part.written for part in content.values() if isinstance(part, Older)), default=current_format())
