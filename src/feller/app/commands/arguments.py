"""Parsing of command-line words into frozen configs, with one-line errors."""

import inspect
import os
import pathlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass, make_dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, NoReturn, TypeVar, cast, get_origin

import docstring_parser
import tyro
from tyro import _errors as events  # private in tyro, so pyproject.toml pins its version range

from feller.app.commands.flag_types import OptionalValue, field_names
from feller.app.options import (
    OPTIONS,
    annotations_of,
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
"""Text that tyro uses as the value of an omitted positional argument if the command line contains unknown words."""
_NESTED_TYRO_CONFIG = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed)
"""tyro configuration of nested fields: a boolean that is on by default has both --flag and --no-flag."""
TYRO_CONFIG = (tyro.conf.FlagCreatePairsOff, *_NESTED_TYRO_CONFIG)


def _raise_parse_error(event: events.ParseErrorEvent, args: Sequence[str], flags: Sequence[str]) -> NoReturn:
    """Raise a one-line error instead of printing the multi-line error box of tyro."""
    hint = f"See {event.prog} --help"
    if isinstance(event, events.UnrecognizedArgs):
        arg = event.tokens[0].partition("=")[0]
        if arg.startswith("-"):
            suggestion = best_match(arg, [*flags])
            raise UsageError(
                "a flag of this command", arg, f"{f'Did you mean {suggestion}? ' if suggestion else ''}{hint}"
            )
        quotes = "Quote paths that contain spaces. " if pathlib.PurePath(arg).suffix else ""
        raise UsageError("no further argument", arg, f"{quotes}{hint}")
    if isinstance(event, events.MissingArgs):
        raise UsageError(
            ", ".join(_flags_of_argument(missing.arg)[0] for missing in event.missing_arguments), "none", hint
        )
    argument = getattr(event, "argument", None)
    if argument is None:
        if error := _own_error():
            given, remedy, name = error.found, error.remedy or hint, _given_field(error.argument, args)
            if error.message:
                raise UsageError(error.message, argument=name, remedy=remedy)
            raise UsageError(argument=name, expected=error.expected, found=given, remedy=remedy)
        raise UsageError(getattr(event, "message", None) or "these arguments cannot be combined", remedy=hint)
    names = _flags_of_argument(argument)
    argument_name = option_of(names[0])
    if isinstance(event, events.InvalidChoice):
        raise UsageError(f"one of {', '.join(event.choices)}", repr(event.value), hint, argument=argument_name)
    if not isinstance(event, events.InstantiationFailure):
        raise UsageError("a value", "none", hint, argument=argument_name)
    expected = next((text for metavar, text in NUMBER_WORDS.items() if metavar in str(argument.lowered.metavar)), None)
    if expected is not None and (values := _values_of_flag(names, args)):
        raise UsageError(expected, repr(" ".join(values)), hint, argument=argument_name)
    raise UsageError(event.message.removeprefix(f"{names[0]}: "), remedy=hint, argument=argument_name)


def _own_error() -> UsageError | InputError | None:
    """Return the feller error that is being handled while the parser runs; None if there is none."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, UsageError | InputError):
        error = error.__cause__ or error.__context__
    return error


def _given_field(name: str | None, args: Sequence[str]) -> str | None:
    """Return the dotted path of the field `name`, such as train.lr, if one flag among the words sets such a field."""
    options = [option_of(word.partition("=")[0]) for word in args if word.startswith("--")]
    paths = [option for option in options if option.rpartition(".")[2] == name]
    return paths[0] if len(paths) == 1 else name


def _flags_of_argument(argument: Any) -> Sequence[str]:
    """Return the flags of a tyro argument; for a positional argument, its metavar."""
    return (str(argument.lowered.metavar),) if argument.is_positional() else argument.lowered.name_or_flags


def _run_tyro(config_class: Any, name: str, args: Sequence[str], flags: Sequence[str], **options: Any) -> Any:
    with events.on_parse_error(lambda event: _raise_parse_error(event, args, flags)):
        docstring = inspect.getdoc(config_class)
        if docstring is not None and OPTIONS in docstring:  # the list of options is for Python's help()
            options["description"] = docstring.partition(OPTIONS)[0].rstrip()
        return tyro.cli(config_class, prog=f"feller {name}", args=args, **options)


def parse(command: type[T], name: str, words: list[str], *, allow_nested: bool = False) -> tuple[T, list[str]]:
    """Parse command-line words into a command's config; return the config and the words that were not parsed.

    Args:
        command: Config class of the command.
        name: Name of the command in the help text.
        words: Command-line words after the name of the command.
        allow_nested: True to return unknown words, which set nested fields such as `--train.lr`. If False, unknown
            words raise an error, and the returned list is empty.

    Raises:
        UsageError: If a flag is unknown or a value is wrong; the error suggests the nearest valid name.
        InputError: If a file or folder given as a value does not exist.
    """
    words = _normalize_switches(command, words)
    _check_many(command, words)
    if not {"-h", "--help"}.isdisjoint(words):
        _unwrap_help(command)
    flags, remaining = [flag for option in flags_of(command) for flag in flag_names(command, option)], []
    command_config: Any = _run_tyro(command, name, words, flags, config=TYRO_CONFIG, return_unknown_args=allow_nested)
    if allow_nested:
        command_config, remaining = command_config
        command_config = replace(
            command_config,
            **{
                config_field.name: config_field.default
                for config_field in fields(command_config)
                if getattr(command_config, config_field.name) == EMPTY_POSITIONAL
            },
        )
    check_values(command_config)
    return command_config, remaining


def show_help(command: type, name: str, options: frozenset[str]) -> NoReturn:
    """Print the help of a command, limited to the given options, and exit."""
    _unwrap_help(command)
    _run_tyro(_with_options(command, options), name, ["--help"], (), config=TYRO_CONFIG)
    raise SystemExit(0)


def _with_options(config_class: Any, options: frozenset[str]) -> Any:
    """Return a copy of a config class that has only the fields in `options`; groups without fields are dropped."""
    field_specs: list[tuple[str, Any, Any]] = []
    for option in fields(config_class):
        subgroup = group(option)
        metadata = {"help": "", **option.metadata}
        if subgroup is None and option.name in options:
            field_specs.append(
                (
                    option.name,
                    config_class.__annotations__[option.name],
                    field(default=option.default, metadata=metadata),
                )
            )
        elif subgroup is not None and not options.isdisjoint(flags_of(subgroup)):
            copy = _with_options(subgroup, options)
            field_specs.append(
                (option.name, Annotated[copy, *field_metadata(option)], field(default_factory=copy, metadata=metadata))
            )
    new_class = make_dataclass(config_class.__name__, field_specs, frozen=True, kw_only=True)
    new_class.__doc__ = config_class.__doc__
    return new_class


def _check_many(command: Any, args: list[str]) -> None:
    """Raise an error if a flag that takes several values is repeated or has no value."""
    for flags in [flag_names(command, name) for name, option in flags_of(command).items() if _takes_many(option)]:
        if sum(arg.partition("=")[0] in flags for arg in args) > 1:
            remedy = shlex.join([flags[0], *_values_of_flag(flags, args)])
            raise UsageError(
                "a single flag followed by all its values", "the flag twice", remedy, argument=option_of(flags[0])
            )
        if any(arg in flags and following.startswith("--") for arg, following in pairwise([*args, "--"])):
            raise UsageError("a value", "none", argument=option_of(flags[0]))


def _takes_many(field: Field[Any]) -> bool:
    is_variadic = any(getattr(marker, "nargs", 1) == "*" for marker in field_metadata(field))
    return not is_positional(field) and (is_variadic or get_origin(getattr(field.type, "__origin__", None)) is tuple)


def _values_of_flag(flags: Sequence[str], args: Sequence[str]) -> list[str]:
    values: list[str] = []
    is_value = False
    for arg in args:
        name, equals, value = arg.partition("=")
        if name in flags:
            is_value = not equals
            values += [value] if equals else []
        elif arg.startswith("-") and not arg[1:2].isdigit() and " " not in arg:
            is_value = False
        elif is_value:
            values.append(arg)
    return values


def _unwrap_help(command: Any) -> None:
    """Join wrapped help texts into single lines, and hide the default of switches, which is always off."""
    for cls in reversed(command.__mro__[:-1]):
        for name, hint in list(getattr(cls, "__annotations__", {}).items()):
            if hint is bool:
                cls.__annotations__[name] = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
        for param in docstring_parser.parse_from_object(cls).params:
            field = command.__dataclass_fields__[param.arg_name]
            field.metadata = {**field.metadata, "help": " ".join((param.description or "").split())}
    for subgroup in filter(None, map(group, fields(command))):
        _unwrap_help(subgroup)


def change_fields(value: T, words: list[str], command: str) -> T:
    """Return a copy of a frozen dataclass with nested fields set by flags such as `--train.lr 1e-4`.

    The flag `--help` lists the fields. The field `modality` is kept: it follows from the data.

    Raises:
        UsageError: If a field is unknown or its value is wrong.
    """
    modality = getattr(value, "modality", None)
    without: Any = value if modality is None else replace(cast(Any, value), modality=None)
    words = _normalize_booleans(without, words)
    flags = [*_nested_flags(without)]
    changed = _run_tyro(type(value), command, words, flags, default=without, config=_NESTED_TYRO_CONFIG)
    return changed if modality is None else replace(changed, modality=modality)


def set_fields(value: T, given: Mapping[str, object]) -> T:
    """Return a copy of a frozen dataclass with nested fields set by name, such as `{"train.lr": 1e-4}`.

    Raises:
        UsageError: If a field is unknown or its value is wrong.
    """
    for name, new_value in given.items():
        if duplicate := next((other for other in given if other != name and other.replace("-", "_") == name), None):
            message = f"a second value for this field, under the name {duplicate!r}"
            raise UsageError("one value", message, "Remove one of the two", argument=f"fields[{name!r}]")
        available = [option_of(path).removeprefix(AUX_PREFIX) for path in _nested_flags(value)]
        if name.replace("-", "_") not in available:
            alias = option_of(FIELD_ALIASES.get(f"--{name.replace('_', '-')}", ""))
            suggestion = alias if alias in available else best_match(name.replace("-", "_"), available)
            raise UsageError(
                argument="fields",
                expected="the name of a recipe field",
                found=repr(name),
                remedy=f"Did you mean {suggestion!r}?" if suggestion else f"Available fields: {', '.join(available)}",
            )
        argument, subfields = f"fields[{name!r}]", [path for path in available if path.startswith(f"{name}.")]
        if subfields:
            remedy = f"Set one of its fields: fields={{{subfields[0]!r}: ...}}"
            raise UsageError(
                argument=argument,
                expected=f"one of {', '.join(subfields)}",
                found=found_instead(new_value),
                remedy=remedy,
            )
        try:
            value = change_fields(value, words_of_fields({name: new_value}), "fit")
        except UsageError as error:
            remedy = None if error.remedy is None or "--help" in error.remedy else error.remedy
            if error.expected is None:
                raise UsageError(error.message, argument=argument, remedy=remedy) from error
            raise UsageError(
                argument=argument, expected=error.expected, found=repr(new_value), remedy=remedy
            ) from error
    return value


def words_of_fields(given: Mapping[str, object]) -> list[str]:
    """Return the command-line words that set recipe fields, such as ["--train.width", "64"] for {"train.width": 64}."""
    args: list[str] = []
    for name, value in given.items():
        values = value if isinstance(value, list | tuple) else (value,)
        args += [f"--{name.replace('_', '-')}", *map(str, values)]
    return args


def _nested_flags(value: Any, prefix: str = "--") -> Iterator[str]:
    """Yield the flags of all fields of a dataclass, including nested ones."""
    for config_field in fields(value):
        child, name = getattr(value, config_field.name), f"{prefix}{config_field.name.replace('_', '-')}"
        yield name
        if is_dataclass(child):
            yield from _nested_flags(child, f"{name}.")


def _normalize_booleans(value: Any, args: list[str]) -> list[str]:
    """Convert true and false in any case to the form that tyro expects, for boolean and other fields."""
    normalized: list[str] = []
    for arg in [part for raw_arg in args for part in _split_boolean(raw_arg)]:
        if arg.lower() not in ("true", "false"):
            normalized.append(arg)
            continue
        field: Any = value
        *parents, leaf = normalized[-1].removeprefix("--").split(".") if normalized else [""]
        for part in (*parents, leaf):
            field = getattr(field, part.replace("-", "_"), None)
        if not isinstance(field, bool):
            normalized.append(arg.capitalize())
        elif arg.lower() == "false":
            normalized[-1] = f"--{'.'.join((*parents, f'no-{leaf}'))}"
    return normalized


def _split_boolean(arg: str) -> list[str]:
    """Split --flag=true or --flag=false into the two words --flag and true or false."""
    flag, equals, value = arg.partition("=")
    return [flag, value] if arg.startswith("--") and equals and value.lower() in ("true", "false") else [arg]


AUX_PREFIX = "aux_networks."
"""Prefix that the names of the settings of auxiliary networks do not have, as in --tokenizer.steps."""
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
    aliases = {name: field for name, field in FIELD_ALIASES.items() if "." in field}
    parts = [arg.partition("=") for arg in words]
    return [f"{aliases.get(name, name)}{equals}{value}" for name, equals, value in parts]


def _normalize_switches(command: Any, args: list[str]) -> list[str]:
    """Replace `--switch true` by `--switch`, drop `--switch false`, and add the value of flags that stand alone."""
    args = _with_optional_values(command, args)
    switches = {
        flag for name, option in flags_of(command).items() if _is_switch(option) for flag in flag_names(command, name)
    }
    normalized: list[str] = []
    for arg in args:
        flag, _, value = arg.partition("=")
        if flag in switches and value.lower() in ("true", "false"):
            normalized += [flag] if value.lower() == "true" else []
        elif normalized and normalized[-1] in switches and arg.lower() in ("true", "false"):
            normalized = normalized if arg.lower() == "true" else normalized[:-1]
        else:
            normalized.append(arg)
    return normalized


def _with_optional_values(command: Any, args: list[str]) -> list[str]:
    """Add the value of each flag with an `OptionalValue` that is followed by another flag or by nothing."""
    values = {
        flag: mark.value
        for name in flags_of(command)
        for mark in annotations_of(command, name, OptionalValue)
        for flag in flag_names(command, name)
    }
    completed: list[str] = []
    for arg, following in pairwise([*args, "--"]):
        is_alone = arg in values and following.startswith("-")
        completed += [arg, values[arg]] if is_alone else [arg]
    return completed


def _is_switch(field: Field[Any]) -> bool:
    return field.type is bool or getattr(field.type, "__origin__", None) is bool


def take_device(words: list[str]) -> list[str]:
    """Apply the flag --device before torch is imported, and return the words without this flag.

    Raises:
        UsageError: If the device is not available.
    """
    for i, arg in enumerate(words):
        name, equals, value = arg.partition("=")
        if name == "--device":
            following = words[i + 1 : i + 2]
            _use(value if equals else "".join(following))
            return [*words[:i], *words[i + 1 + (0 if equals else len(following)) :]]
    return words


def _use(device: str) -> None:
    """Make only the given device visible to this process."""
    device_type, _, index = device.partition(":")
    if device_type not in ("cpu", "cuda") or (index and not (device_type == "cuda" and index.isdecimal())):
        raise UsageError("cpu, cuda, or cuda:NUMBER", repr(device), argument="device")
    if device_type == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
        return
    if index:
        os.environ["CUDA_VISIBLE_DEVICES"] = index
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            "this device is not available", remedy="Leave out --device, or use cpu", place=f"--device {device}"
        )


def check_names(words: list[str], command: Any, *places: str) -> None:
    """Raise an error for words that are neither command flags nor recipe fields, before the data are read.

    Raises:
        UsageError: If a word is neither a flag nor a field; the error suggests the nearest name.
    """
    recipe_fields = [name for class_path in places for name in field_names(class_path)]
    flags = [f"--{name.replace('_', '-')}" for name in flags_of(command) if name not in ("data", "folder")]
    for arg in words:
        name = arg.split("=")[0].removeprefix("--").split(".")[0].replace("-", "_")
        if arg.startswith("--") and name not in (*recipe_fields, "help"):
            command_text = command_name(command)
            alias = FIELD_ALIASES.get(arg.partition("=")[0])
            suggestion = alias or best_match(arg, flags)
            remedy = f"{f'Did you mean {suggestion}? ' if suggestion else ''}See feller {command_text} --help"
            raise UsageError("a flag or a recipe field", arg, remedy)
