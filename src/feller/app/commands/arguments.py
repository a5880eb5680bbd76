"""Parsing of command-line words into frozen configs, with one-line errors."""

import inspect
import os
import pathlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass, make_dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, NoReturn, TypeVar, get_origin

import docstring_parser
import tyro
from tyro import _errors as events  # private in tyro, so pyproject.toml pins its version range

from feller.app.commands.flag_types import field_names
from feller.app.options import (
    OPTIONS,
    check_values,
    command_name,
    field_metadata,
    flag_names,
    flags_of,
    group,
    is_positional,
    option_of,
)
from feller.core.errors import InputError, UsageError, best_match, found_instead

T = TypeVar("T")
NUMBER_WORDS = {"FLOAT": "a number", "INT": "a whole number"}
"""tyro's metavar of a number type -> description of the type in error messages."""
EMPTY_POSITIONAL = "[]"
"""Value that tyro assigns to a missing positional argument if the command line contains unknown words."""
_NESTED_TYRO_CONFIG = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed)
"""tyro configuration of nested fields: a boolean that is on by default has both --flag and --no-flag."""
TYRO_CONFIG = (tyro.conf.FlagCreatePairsOff, *_NESTED_TYRO_CONFIG)


def _raise_parse_error(event: events.ParseErrorEvent, words: Sequence[str], flags: Sequence[str]) -> NoReturn:
    """Raise a one-line error instead of printing the multi-line error box of tyro."""
    see = f"See {event.prog} --help"
    if isinstance(event, events.UnrecognizedArgs):
        word = event.tokens[0].partition("=")[0]
        if word.startswith("-"):
            near = best_match(word, [*flags])
            raise UsageError("a flag of this command", word, f"{f'Did you mean {near}? ' if near else ''}{see}")
        quotes = "Quote paths that contain spaces. " if pathlib.PurePath(word).suffix else ""
        raise UsageError("no further argument", word, f"{quotes}{see}")
    if isinstance(event, events.MissingArgs):
        raise UsageError(", ".join(_flags_of_argument(one.arg)[0] for one in event.missing_arguments), "none", see)
    argument = getattr(event, "argument", None)
    if argument is None:
        if own := _own_error():
            found, remedy = own.found, own.remedy or see
            if own.message:
                raise UsageError(own.message, argument=own.argument, remedy=remedy)
            raise UsageError(argument=own.argument, expected=own.expected, found=found, remedy=remedy)
        raise UsageError(getattr(event, "message", None) or "these arguments cannot be combined", remedy=see)
    names = _flags_of_argument(argument)
    argument_name = option_of(names[0])
    if isinstance(event, events.InvalidChoice):
        raise UsageError(f"one of {', '.join(event.choices)}", repr(event.value), see, argument=argument_name)
    if not isinstance(event, events.InstantiationFailure):
        raise UsageError("a value", "none", see, argument=argument_name)
    kind = next((text for word, text in NUMBER_WORDS.items() if word in str(argument.lowered.metavar)), None)
    if kind is not None and (values := _values_of_flag(names, words)):
        raise UsageError(kind, repr(" ".join(values)), see, argument=argument_name)
    raise UsageError(event.message.removeprefix(f"{names[0]}: "), remedy=see, argument=argument_name)


def _own_error() -> UsageError | InputError | None:
    """Return the feller error that is being handled while the parser runs; None if there is none."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, UsageError | InputError):
        error = error.__cause__ or error.__context__
    return error


def _flags_of_argument(argument: Any) -> Sequence[str]:
    """Return the flags of a tyro argument; for a positional argument, its metavar."""
    return (str(argument.lowered.metavar),) if argument.is_positional() else argument.lowered.name_or_flags


def _run_tyro(kind: Any, name: str, words: Sequence[str], flags: Sequence[str], **more: Any) -> Any:
    with events.on_parse_error(lambda event: _raise_parse_error(event, words, flags)):
        about = inspect.getdoc(kind)
        if about is not None and OPTIONS in about:  # the list of options is for Python's help()
            more["description"] = about.partition(OPTIONS)[0].rstrip()
        return tyro.cli(kind, prog=f"feller {name}", args=words, **more)


def parse(command: type[T], name: str, words: list[str], *, allow_nested: bool = False) -> tuple[T, list[str]]:
    """Parse command-line words into a command's config.

    With `allow_nested`, also return the words that set nested fields.

    Raises:
        UsageError: If a flag is unknown or a value is wrong; the error suggests the nearest valid name.
        InputError: If a file or folder given as a value does not exist.
    """
    words = _normalize_switches(command, words)
    _check_many(command, words)
    if not {"-h", "--help"}.isdisjoint(words):
        _unwrap_help(command)
    flags, rest = [flag for option in flags_of(command) for flag in flag_names(command, option)], []
    command_config: Any = _run_tyro(command, name, words, flags, config=TYRO_CONFIG, return_unknown_args=allow_nested)
    if allow_nested:
        command_config, rest = command_config
        command_config = replace(
            command_config,
            **{
                one.name: one.default
                for one in fields(command_config)
                if getattr(command_config, one.name) == EMPTY_POSITIONAL
            },
        )
    check_values(command_config)
    return command_config, rest


def show_help(command: type, name: str, options: frozenset[str]) -> NoReturn:
    """Print the help of a command, limited to the given options, and exit."""
    _unwrap_help(command)
    _run_tyro(_with_options(command, options), name, ["--help"], (), config=TYRO_CONFIG)
    raise SystemExit(0)


def _with_options(kind: Any, options: frozenset[str]) -> Any:
    """Return a copy of a config class with only the given options, without groups that become empty."""
    kept: list[tuple[str, Any, Any]] = []
    for one in fields(kind):
        inner = group(one)
        metadata = {"help": "", **one.metadata}
        if inner is None and one.name in options:
            kept.append((one.name, kind.__annotations__[one.name], field(default=one.default, metadata=metadata)))
        elif inner is not None and not options.isdisjoint(flags_of(inner)):
            copy = _with_options(inner, options)
            kept.append(
                (one.name, Annotated[copy, *field_metadata(one)], field(default_factory=copy, metadata=metadata))
            )
    made = make_dataclass(kind.__name__, kept, frozen=True, kw_only=True)
    made.__doc__ = kind.__doc__
    return made


def _check_many(command: Any, words: list[str]) -> None:
    """Raise an error if a flag that takes several values is repeated or has no value."""
    for flags in [flag_names(command, name) for name, one in flags_of(command).items() if _takes_many(one)]:
        if sum(word.partition("=")[0] in flags for word in words) > 1:
            whole = shlex.join([flags[0], *_values_of_flag(flags, words)])
            raise UsageError(
                "a single flag followed by all its values",
                "the flag twice",
                whole,
                argument=option_of(flags[0]),
            )
        if any(word in flags and behind.startswith("--") for word, behind in pairwise([*words, "--"])):
            raise UsageError("a value", "none", argument=option_of(flags[0]))


def _takes_many(field: Field[Any]) -> bool:
    several = any(getattr(one, "nargs", 1) == "*" for one in field_metadata(field))
    return not is_positional(field) and (several or get_origin(getattr(field.type, "__origin__", None)) is tuple)


def _values_of_flag(flags: Sequence[str], words: Sequence[str]) -> list[str]:
    values: list[str] = []
    is_value = False
    for word in words:
        name, equals, value = word.partition("=")
        if name in flags:
            is_value = not equals
            values += [value] if equals else []
        elif word.startswith("-") and not word[1:2].isdigit() and " " not in word:
            is_value = False
        elif is_value:
            values.append(word)
    return values


def _unwrap_help(command: Any) -> None:
    """Join wrapped help texts into single lines, and hide the default of switches, which is always off."""
    for kind in reversed(command.__mro__[:-1]):
        for name, hint in list(getattr(kind, "__annotations__", {}).items()):
            if hint is bool:
                kind.__annotations__[name] = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
        for documented in docstring_parser.parse_from_object(kind).params:
            field = command.__dataclass_fields__[documented.arg_name]
            field.metadata = {**field.metadata, "help": " ".join((documented.description or "").split())}
    for inner in filter(None, map(group, fields(command))):
        _unwrap_help(inner)


def change_fields(value: T, words: list[str], command: str) -> T:
    """Set nested fields of a frozen dataclass from flags such as `--train.lr 1e-4`; the flag `--help` lists the fields.

    Raises:
        UsageError: If a field is unknown or its value is wrong.
    """
    words = _normalize_booleans(value, words)
    return _run_tyro(type(value), command, words, [*_nested_flags(value)], default=value, config=_NESTED_TYRO_CONFIG)


def set_fields(value: T, given: Mapping[str, object]) -> T:
    """Set nested fields of a frozen dataclass by name, such as `{"train.lr": 1e-4}`.

    Raises:
        UsageError: If a field is unknown or its value is wrong.
    """
    for name, one in given.items():
        if twice := next((each for each in given if each != name and each.replace("-", "_") == name), None):
            found = f"a second value for this field, under the name {twice!r}"
            raise UsageError("one value", found, "Remove one of the two", argument=f"fields[{name!r}]")
        known = [option_of(path) for path in _nested_flags(value)]
        if name.replace("-", "_") not in known:
            plain = option_of(FIELD_ALIASES.get(f"--{name.replace('_', '-')}", ""))
            close = plain if plain in known else best_match(name.replace("-", "_"), known)
            raise UsageError(
                argument="fields",
                expected="the name of a recipe field",
                found=repr(name),
                remedy=f"Did you mean {close!r}?" if close else f"Available fields: {', '.join(known)}",
            )
        argument, deeper = f"fields[{name!r}]", [path for path in known if path.startswith(f"{name}.")]
        if deeper:
            remedy = f"Set one of its fields: fields={{{deeper[0]!r}: ...}}"
            raise UsageError(
                argument=argument, expected=f"one of {', '.join(deeper)}", found=found_instead(one), remedy=remedy
            )
        try:
            value = change_fields(value, words_of_fields({name: one}), "fit")
        except UsageError as error:
            remedy = None if error.remedy is None or "--help" in error.remedy else error.remedy
            if error.expected is None:
                raise UsageError(error.message, argument=argument, remedy=remedy) from error
            raise UsageError(argument=argument, expected=error.expected, found=repr(one), remedy=remedy) from error
    return value


def words_of_fields(given: Mapping[str, object]) -> list[str]:
    """Return the command-line words that set the given fields."""
    words: list[str] = []
    for name, value in given.items():
        several = value if isinstance(value, list | tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, several)]
    return words


def _nested_flags(value: Any, outer: str = "--") -> Iterator[str]:
    """Yield the flags of all fields of a dataclass, including nested ones."""
    for one in fields(value):
        inner, name = getattr(value, one.name), f"{outer}{one.name.replace('_', '-')}"
        yield name
        if is_dataclass(inner):
            yield from _nested_flags(inner, f"{name}.")


def _normalize_booleans(value: Any, words: list[str]) -> list[str]:
    """Convert true and false in any case to the form that tyro expects, for boolean and other fields."""
    result: list[str] = []
    for word in [part for whole in words for part in _split_boolean(whole)]:
        if word.lower() not in ("true", "false"):
            result.append(word)
            continue
        field: Any = value
        *outer, last = result[-1].removeprefix("--").split(".") if result else [""]
        for part in (*outer, last):
            field = getattr(field, part.replace("-", "_"), None)
        if not isinstance(field, bool):
            result.append(word.capitalize())
        elif word.lower() == "false":
            result[-1] = f"--{'.'.join((*outer, f'no-{last}'))}"
    return result


def _split_boolean(word: str) -> list[str]:
    """Split --flag=true or --flag=false into the two words --flag and true or false."""
    flag, equals, value = word.partition("=")
    return [flag, value] if word.startswith("--") and equals and value.lower() in ("true", "false") else [word]


FIELD_ALIASES = {
    "--lr": "--train.lr",
    "--learning-rate": "--train.lr",
    "--batch-size": "--train.batch-size",
    "--batch": "--train.batch-size",
    "--weight-decay": "--train.weight-decay",
    "--precision": "--train.precision",
    "--compile": "--train.compile",
    "--channels": "--architecture.channels",
    "--width": "--architecture.width",
    "--depth": "--architecture.depth",
    "--epochs": "--steps",
}
"""Flag name common in other libraries -> feller's recipe field or command flag. Names of recipe fields are replaced
automatically; command flags are only suggested in error messages."""


def expand_field_aliases(words: list[str]) -> list[str]:
    """Replace flag names common in other libraries by the flags of recipe fields, such as --lr by --train.lr."""
    fields = {name: field for name, field in FIELD_ALIASES.items() if "." in field}
    parts = [word.partition("=") for word in words]
    return [f"{fields.get(name, name)}{equals}{value}" for name, equals, value in parts]


def _normalize_switches(command: Any, words: list[str]) -> list[str]:
    """Replace `--switch true` by `--switch`, and drop `--switch false`."""
    switches = {
        flag for name, one in flags_of(command).items() if _is_switch(one) for flag in flag_names(command, name)
    }
    result: list[str] = []
    for word in words:
        flag, _, value = word.partition("=")
        if flag in switches and value.lower() in ("true", "false"):
            result += [flag] if value.lower() == "true" else []
        elif result and result[-1] in switches and word.lower() in ("true", "false"):
            result = result if word.lower() == "true" else result[:-1]
        else:
            result.append(word)
    return result


def _is_switch(field: Field[Any]) -> bool:
    return field.type is bool or getattr(field.type, "__origin__", None) is bool


def take_device(words: list[str]) -> list[str]:
    """Apply the flag --device before torch is imported, and return the words without this flag.

    Raises:
        UsageError: If the device is not available.
    """
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--device":
            following = words[i + 1 : i + 2]
            _use(value if equals else "".join(following))
            return [*words[:i], *words[i + 1 + (0 if equals else len(following)) :]]
    return words


def _use(device: str) -> None:
    """Make only the given device visible to this process."""
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError("cpu, cuda, or cuda:NUMBER", repr(device), argument="device")
    if kind == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
        return
    if number:
        os.environ["CUDA_VISIBLE_DEVICES"] = number
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            "this device is not available", remedy="Leave out --device, or use cpu", place=f"--device {device}"
        )


def check_names(words: list[str], command: Any, *places: str) -> None:
    """Raise an error for words that are neither command flags nor recipe fields, before the data are read.

    Args:
        words: Words that the parser did not recognise.
        command: Config class of the command.
        places: Dataclasses with the fields of the recipe, as module:CLASS.

    Raises:
        UsageError: If a word is neither a flag nor a field; the error suggests the nearest name.
    """
    deeper = [name for place in places for name in field_names(place)]
    flags = [f"--{name.replace('_', '-')}" for name in flags_of(command) if name not in ("data", "folder")]
    for word in words:
        name = word.split("=")[0].removeprefix("--").split(".")[0].replace("-", "_")
        if word.startswith("--") and name not in (*deeper, "help"):
            kind = command_name(command)
            alias = FIELD_ALIASES.get(word.partition("=")[0])
            near = alias or best_match(word, flags)
            remedy = f"{f'Did you mean {near}? ' if near else ''}See feller {kind} --help"
            raise UsageError("a flag or a recipe field", word, remedy)
