"""Command-line arguments to frozen configs, and one-line parser errors."""

import contextlib
import io
import os
import pathlib
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, is_dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import docstring_parser
import tyro

from feller.app.commands.flag_types import Look, field_names
from feller.core.errors import UsageError
from feller.core.serialization import closest, nearest

T = TypeVar("T")
EDGES = "╭╮╰╯─-"
KINDS = {"float": "a number", "int": "a whole number", "FLOAT": "a number", "INT": "a whole number"}


def plainly(parse: Callable[[], T]) -> T:
    """Call a parser that prints boxes and ends the program where words are wrong.

    Raises:
        UsageError: In the box's place.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return parse()
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        raise UsageError(in_a_line(box.getvalue())) from None


def in_a_line(box: str) -> str:
    """Return what a box says, as a sentence and what helps."""
    lines = [line.strip("│| ") for line in box.strip("\n").splitlines()[1:]]  # the first names the kind of fault
    inner = ["" if line and not line.strip(EDGES) else line for line in lines]
    parts = " ".join(line or "\n" for line in inner).split("\n")
    parts = [" ".join(part.split()) for part in parts]
    said, *rest = [part for part in parts if part]
    whole = " ".join((said, *rest))
    helps = re.search(r"For full helptext, (?:see|run) (.*?--help)", whole)
    see = f" (see {helps[1]})" if helps else ""
    if unknown := re.match(r"Unrecognized options: (\S+?)(?:,|$|\s)", said):
        near = re.search(r"Perhaps you meant: (\S+)", whole)
        kind = "flag is called" if unknown[1].startswith("-") else "place is left for"
        if not unknown[1].startswith("-") and pathlib.PurePath(unknown[1]).suffix:
            see = f"; a name with a space needs quotes{see}"
        return f"no {kind} {unknown[1]}{f': did you mean {near[1]}?' if near else ''}{see}"
    if missing := re.match(r"Missing value for argument '([^'/]+)", said):
        return f"{missing[1]} needs a value{see}"
    if wrong := re.match(r"Error parsing (\S+): (.*)", said):
        name, why = wrong.groups()
        kind = next((text for word, text in KINDS.items() if re.search(rf"\b{word}\b", why)), None)
        given = re.search(r"(?:'([^']*)'\]?\.?|\['([^']*)'\]\.?)$", why)
        if kind and given:
            return f"{name} takes {kind}, got {given[1] or given[2]!r}{see}"
        return f"{name}: {why}" if not name.startswith("-") else f"{name}: {why}{see}"
    return said


Mark = TypeVar("Mark")
MANY = (
    ("--edit",),
    ("--ask",),
    ("--voice",),
    ("--denoise",),
    ("--style",),
    ("--content",),
    ("--given",),
    ("--reward", "--rewards"),
    ("--target",),
    ("--times",),
    ("--cost",),
    ("--frame",),
    ("--classes",),
)
"""Flags that take as many values as are given."""
NOTHING = "[]"
"""What tyro makes of a place that is left out, where words are left over."""
_DEEP = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed)
"""How fields of a value are flags: what may be on already has one to say so again, and one to turn it off."""
FORM = (tyro.conf.FlagCreatePairsOff, *_DEEP)


def flags_of(command: Any) -> dict[str, Field[Any]]:
    """Return the fields that words set, by their names, those of groups in the place of these."""
    found: dict[str, Field[Any]] = {}
    for one in fields(command):
        inner = _group(one)
        found |= {one.name: one} if inner is None else flags_of(inner)
    return found


def values_of(command: Any) -> dict[str, Any]:
    """Return what the fields of a command hold, by their names, those of groups in the place of these."""
    found: dict[str, Any] = {}
    for one in fields(command):
        value = getattr(command, one.name)
        found |= {one.name: value} if _group(one) is None else values_of(value)
    return found


def _group(field: Field[Any]) -> type | None:
    """Return the class of a field that is a group of flags."""
    kind = getattr(field.type, "__origin__", None)
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def changed(command: Any) -> list[str]:
    """Return the names of what is not as it usually is."""
    usual = flags_of(command)
    return [name for name, value in values_of(command).items() if value != usual[name].default]


def marks(command: Any, field: str, kind: type[Mark]) -> list[Mark]:
    """Return the marks of a kind at a field of a command."""
    return [mark for mark in _known(command, field) if isinstance(mark, kind)]


def _known(command: Any, field: str) -> tuple[Any, ...]:
    """Return what is said of a field beside its type."""
    return getattr(flags_of(command)[field].type, "__metadata__", ())


def flag_names(command: Any, field: str) -> list[str]:
    """Return the flags of a field of a command, as its help shows them; none of a place or of what no word sets."""
    known = _known(command, field)
    if any(getattr(one, "__name__", str(one)).endswith(("Positional", "Suppress", "Fixed")) for one in known):
        return []
    given = [one for one in known if hasattr(one, "aliases")]
    name = next((one.name for one in given if one.name), field.replace("_", "-"))
    others = [alias for one in given for alias in one.aliases or ()]
    return [*others, *([] if f"-{name}" in others else [f"--{name}"])]


def _check_many(words: list[str]) -> None:
    """Refuse a flag of many values that stands twice, of which only the last would count, or has none behind it.

    Raises:
        UsageError: If there is one.
    """
    for flags in MANY:
        if sum(word.partition("=")[0] in flags for word in words) > 1:
            whole = shlex.join([flags[0], *_behind(flags, words)])
            raise UsageError(f"{flags[0]} stands twice; give it once, with all that it takes behind it: {whole}")
        if any(word in flags and behind.startswith("--") for word, behind in pairwise([*words, "--"])):
            raise UsageError(f"{flags[0]} needs a value")


def _behind(flags: tuple[str, ...], words: list[str]) -> list[str]:
    """Return all values behind a flag, wherever it stands."""
    found: list[str] = []
    taken = False
    for word in words:
        name, equals, value = word.partition("=")
        if name in flags:
            taken = not equals
            found += [value] if equals else []
        elif word.startswith("-") and not word[1:2].isdigit() and " " not in word:
            taken = False
        elif taken:
            found.append(word)
    return found


def parse(command: type[T], name: str, words: list[str], *, deep: bool = False) -> tuple[T, list[str]]:
    """Return a command and, if it takes deeper fields, the words that are none of its flags.

    Raises:
        UsageError: If words are wrong; names the nearest right ones.
        InputError: If there is nothing at a place that is named.
    """
    words = _switched(command, words)
    _check_many(words)
    if not {"-h", "--help"}.isdisjoint(words):
        _unwrap_help(command)
    found, rest = _parsed(command, name, words, deep=deep)
    check_values(found, lambda field: (flag_names(command, field) or [field])[0])
    return found, rest


def check_values(command: Any, called: Callable[[str], str] = str, but: tuple[str, ...] = ()) -> None:
    """Look at what the fields of a command hold.

    Args:
        command: With its values.
        called: Field -> what it is called in errors.
        but: Fields that are not looked at.

    Raises:
        UsageError: If a value is wrong.
        InputError: If there is nothing at a place that is named.
    """
    for field, value in values_of(command).items():
        for mark in marks(command, field, Look) if field not in but else ():
            mark.look(called(field), value)


def config_of(kind: type[T], given: Mapping[str, Any]) -> T:
    """Return a config from the arguments of a Python function: its fields, or those of its groups by their own names.

    Raises:
        UsageError: If there is no such field, or a value is wrong; names the nearest right one.
    """
    groups = {one.name: inner for one in fields(kind) if (inner := _group(one)) is not None}  # pyrefly: ignore
    own = {one.name for one in fields(kind)} - {*POSITIONAL}  # pyrefly: ignore
    inside = {name: group for group, inner in groups.items() for name in flags_of(inner)}
    found = {name: value for name, value in given.items() if name in own}
    for name, value in given.items():
        if name in own:
            continue
        if name not in inside:
            known = [*own, *inside]
            close = closest(name, known, ALIKE)
            advice = f"did you mean {close!r}?" if close else f"expected one of {', '.join(sorted(known))}"
            raise UsageError(f"{command_of(kind)} takes no argument {name!r}: {advice}")
        group = inside[name]
        found[group] = replace(found.get(group) or groups[group](), **{name: value})
    config = kind(**found)
    check_values(config, but=POSITIONAL)
    return config


def command_of(kind: type) -> str:
    """Return the command of a config or of a class that runs itself."""
    return kind.__name__.removesuffix("Config").lower()


POSITIONAL = ("folder",)
"""Fields that are the first argument of a Python function."""
ALIKE = 0.7
"""How alike two names must be for one to be meant by the other."""


def _unwrap_help(command: Any) -> None:
    """Let the help break lines where the terminal ends, and not also where the source does; a switch shows no default.

    All switches are off where nobody sets them, so that saying so of each tells nothing.
    """
    for kind in reversed(command.__mro__[:-1]):
        for name, hint in list(getattr(kind, "__annotations__", {}).items()):
            if hint is bool:
                kind.__annotations__[name] = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
        for told in docstring_parser.parse_from_object(kind).params:
            field = command.__dataclass_fields__[told.arg_name]
            field.metadata = {**field.metadata, "help": " ".join((told.description or "").split())}
    for group in filter(None, map(_group, fields(command))):
        _unwrap_help(group)


def _parsed(command: type[T], name: str, words: list[str], *, deep: bool) -> tuple[T, list[str]]:
    """Return a command, and the words that are none of its flags; nothing is looked at yet."""
    if deep:
        both: Any = plainly(
            lambda: tyro.cli(command, prog=f"feller {name}", args=words, config=FORM, return_unknown_args=True)
        )
        found, rest = both
        absent = {one.name: one.default for one in fields(found) if getattr(found, one.name) == NOTHING}
        return replace(found, **absent), rest
    return plainly(lambda: tyro.cli(command, prog=f"feller {name}", args=words, config=FORM)), []


def change_fields(value: T, words: list[str], command: str) -> T:
    """Set deeper fields of a frozen value, as `--train.lr 1e-4` does; `--help` shows the whole tree and ends.

    Raises:
        UsageError: If a word is no field, or a value is none of its.
    """
    words = _truths(value, words)
    return plainly(lambda: tyro.cli(type(value), prog=f"feller {command}", args=words, default=value, config=_DEEP))


def _truths(value: Any, words: list[str]) -> list[str]:
    """Read true and false in any case, behind fields that are switches and among values of others."""
    found: list[str] = []
    for word in [part for whole in words for part in _split_truth(whole)]:
        if word.lower() not in ("true", "false"):
            found.append(word)
            continue
        field: Any = value
        *outer, last = found[-1].removeprefix("--").split(".") if found else [""]
        for part in (*outer, last):
            field = getattr(field, part.replace("-", "_"), None)
        if not isinstance(field, bool):
            found.append(word.capitalize())
        elif word.lower() == "false":
            found[-1] = f"--{'.'.join((*outer, f'no-{last}'))}"
    return found


def _split_truth(word: str) -> list[str]:
    """Return --flag=true as two words, and others as they are."""
    flag, equals, value = word.partition("=")
    return [flag, value] if word.startswith("--") and equals and value.lower() in ("true", "false") else [word]


PLAIN_NAMES = {
    "--lr": "--train.lr",
    "--learning-rate": "--train.lr",
    "--batch-size": "--train.batch",
    "--batch": "--train.batch",
    "--weight-decay": "--train.weight-decay",
    "--precision": "--train.precision",
    "--compile": "--train.compile",
    "--channels": "--architecture.channels",
    "--width": "--architecture.width",
    "--depth": "--architecture.depth",
    "--epochs": "--steps",
}
"""What people write -> the field of the recipe, or the flag, that is meant; fields are set, flags suggested."""


def by_field(words: list[str]) -> list[str]:
    """Replace plain names of fields, such as --lr, by those that the recipe has for them."""
    fields = {name: field for name, field in PLAIN_NAMES.items() if "." in field}
    parts = [word.partition("=") for word in words]
    return [f"{fields.get(name, name)}{equals}{value}" for name, equals, value in parts]


def _switched(command: Any, words: list[str]) -> list[str]:
    """Read true and false behind a switch, in any case: the switch alone, or nothing."""
    switches = {
        flag for name, one in flags_of(command).items() if _is_switch(one) for flag in flag_names(command, name)
    }
    found: list[str] = []
    for word in words:
        flag, _, value = word.partition("=")
        if flag in switches and value.lower() in ("true", "false"):
            found += [flag] if value.lower() == "true" else []
        elif found and found[-1] in switches and word.lower() in ("true", "false"):
            found = found if word.lower() == "true" else found[:-1]
        else:
            found.append(word)
    return found


def _is_switch(field: Field[Any]) -> bool:
    return field.type is bool or getattr(field.type, "__origin__", None) is bool


def take_device(words: list[str]) -> list[str]:
    """Choose the device that --device names, before anything looks for one; return the other words.

    Raises:
        UsageError: If there is no such device.
    """
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--device":
            following = words[i + 1 : i + 2]
            _use(value if equals else "".join(following))
            return [*words[:i], *words[i + 1 + (0 if equals else len(following)) :]]
    return words


def _use(device: str) -> None:
    """Let this process see one device only."""
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"--device is cpu, cuda, or cuda:NUMBER, got {device!r}")
    if kind == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
        return
    if number:
        os.environ["CUDA_VISIBLE_DEVICES"] = number
    import torch

    if not torch.cuda.is_available():
        raise UsageError(f"--device {device}: there is no such device here; leave it out, or say cpu")


def check_names(words: list[str], command: Any, *places: str) -> None:
    """Refuse words that are neither a flag of a command nor a field of the recipe, before anything is read.

    Args:
        words: Those that are no flags of the command.
        command: The command.
        places: Where the recipe's fields are, as module:CLASS.

    Raises:
        UsageError: If there is one; says which are near.
    """
    deeper = [name for place in places for name in field_names(place)]
    flags = [f"--{name.replace('_', '-')}" for name in flags_of(command) if name not in ("data", "folder")]
    for word in words:
        name = word.split("=")[0].removeprefix("--").split(".")[0].replace("-", "_")
        if word.startswith("--") and name not in (*deeper, "help"):
            kind = command_of(command)
            meant = PLAIN_NAMES.get(word.partition("=")[0])
            near = f"did you mean {meant!r}?" if meant else nearest(word, flags)
            raise UsageError(f"{kind} has no flag {word}: {near}; and the recipe's fields, see --help")


def words_of(command: Any) -> list[str]:
    """Return the words that make a command again: its name, and what differs from the usual."""
    words = [command_of(type(command))]
    for name in changed(command):
        if name in ("json", "verbose", "callbacks"):
            continue
        value = values_of(command)[name]
        flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            value = tuple(f"{key}={one}" for key, one in value.items())
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        words += [*(() if name in ("data", "folder") else (flag,)), *map(str, values)]
    return words
