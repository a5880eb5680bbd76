"""Access to options of configs by name, across nested groups; decorator that passes options as keyword arguments."""

import ast
import functools
import inspect
import itertools
import pathlib
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from numbers import Integral
from numbers import Real as RealNumber
from types import MappingProxyType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from feller.app.commands.flag_types import TypeValidator, Validator
from feller.core.errors import FLAG_PATTERN, InputError, UsageError, best_match, did_you_mean

Config = TypeVar("Config")
Result = TypeVar("Result")
Mark = TypeVar("Mark")

MIN_SIMILARITY = 0.7
"""Minimum similarity (from 0 to 1) of an unknown option name to a valid name, for which the valid name is suggested."""
PLAIN = (bool, int, float, str, tuple)
"""Types whose values are compared with the option's default. Values of other types, such as a DataFrame, always count
as non-default."""
MEANT = {
    **dict.fromkeys(("batch", "batch_size", "expected_batch_size"), "train.batch_size"),
    **dict.fromkeys(("lr", "learning_rate"), "train.lr"),
    **{"weight_decay": "train.weight_decay", "optimizer": "train.optimizer", "precision": "train.precision"},
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_steps", "iterations"), "steps"),
    **{"max_grad_norm": "clip", "l2_norm_clip": "clip", "noise_multiplier": "noise", "sigma": "noise"},
    **{"target_epsilon": "epsilon", "target_delta": "delta", "random_state": "seed", "random_seed": "seed"},
    **{"n_samples": "n", "num_samples": "n", "num_rows": "n", "conditions": "given", "output_dir": "out"},
    **{"label": "target", "target_column": "target", "y": "target", "silent": "verbose", "metadata": "schema"},
}
"""Argument name common in other libraries -> equivalent option or recipe field of feller, for suggestions in errors."""
PARTS_OF_RECIPES = ("architecture", "objective", "train", "sampling", "modality", "aux_networks")
"""Names of the nested fields of a recipe."""
SHELL = ("json",)
"""Names of the options that exist only on the command line."""


def flags_of(kind: Any) -> Mapping[str, Field[Any]]:
    """Return the dataclass field of each option of a config class, by option name; nested groups are flattened."""
    return _flags_of(kind if isinstance(kind, type) else type(kind))


@functools.cache
def _flags_of(config_class: type) -> Mapping[str, Field[Any]]:
    options: dict[str, Field[Any]] = {}
    for field in fields(config_class):  # pyrefly: ignore - a dataclass
        subgroup = group(field)
        options |= {field.name: field} if subgroup is None else flags_of(subgroup)
    return MappingProxyType(options)


def values_of(config: Any) -> dict[str, Any]:
    """Return the value of each option of a config, by option name; nested groups are flattened."""
    values: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        values |= {field.name: value} if group(field) is None else values_of(value)
    return values


def group(field: Field[Any]) -> type | None:
    """Return the config class if a field is a group of options; None if it is a single option."""
    origin = getattr(field.type, "__origin__", None)
    return origin if isinstance(origin, type) and is_dataclass(origin) else None


def non_default_options(config: Any) -> list[str]:
    """Return the names of the options that differ from their defaults."""
    defaults = {name: field.default for name, field in flags_of(config).items()}
    return [
        name
        for name, value in values_of(config).items()
        if value is not defaults[name] and not (isinstance(value, PLAIN) and value == defaults[name])
    ]


def annotations_of(config: Any, name: str, kind: type[Mark]) -> list[Mark]:
    """Return the annotations (metadata of `typing.Annotated`) of class `kind` on the option `name` of a config."""
    return [annotation for annotation in field_metadata(flags_of(config)[name]) if isinstance(annotation, kind)]


def field_metadata(field: Field[Any]) -> tuple[Any, ...]:
    """Return the `Annotated` metadata of an option."""
    return getattr(field.type, "__metadata__", ())


def is_positional(field: Field[Any]) -> bool:
    """Return True if the option is positional on the command line."""
    return any(
        getattr(annotation, "__name__", str(annotation)).endswith("Positional") for annotation in field_metadata(field)
    )


def flag_names(kind: Any, name: str) -> list[str]:
    """Return the flags of an option as shown in --help; empty for a positional or Python-only option."""
    metadata = field_metadata(flags_of(kind)[name])
    if any(
        getattr(annotation, "__name__", str(annotation)).endswith(("Positional", "Suppress", "Fixed"))
        for annotation in metadata
    ):
        return []
    tyro_args = [annotation for annotation in metadata if hasattr(annotation, "aliases")]
    long_name = next((annotation.name for annotation in tyro_args if annotation.name), name.replace("_", "-"))
    aliases = [alias for annotation in tyro_args for alias in annotation.aliases or ()]
    return [*aliases, *([] if f"-{long_name}" in aliases else [f"--{long_name}"])]


def command_words(config: Any) -> list[str]:
    """Return the command-line words that reproduce a config: the command and its non-default options."""
    return [command_name(type(config)), *option_words(config, flags_of(config))]


def option_words(config: Any, names: Iterable[str]) -> list[str]:
    """Return the command-line words of the named options of a config that differ from their defaults."""
    args, values, given = list[str](), values_of(config), non_default_options(config)
    for name in (name for name in names if name in given):
        value, flags = values[name], flag_names(config, name)
        if name in SHELL or not (flags or is_positional(flags_of(config)[name])):
            continue
        if isinstance(value, Mapping):
            value = tuple(f"{key}={entry}" for key, entry in value.items())
        args += [*flags[:1], *map(str, value if isinstance(value, tuple) else () if value is True else (value,))]
    return args


def option_of(flag: str) -> str:
    """Return the option name of a flag, such as top_k for --top-k."""
    return flag.lstrip("-").replace("-", "_")


def command_name(kind: type) -> str:
    """Return the name of the command that a config class belongs to."""
    return kind.__name__.removesuffix("Config").lower()


def check_values(config: Any, *, places: bool = True) -> None:
    """Check the option values of a config with the validators of the options.

    Args:
        config: Config to validate.
        places: True to validate positional arguments too.

    Raises:
        UsageError: If a value is wrong.
        InputError: If a file or folder does not exist.
    """
    options = flags_of(config)
    for name, value in values_of(config).items():
        for validator in annotations_of(config, name, Validator) if places or not is_positional(options[name]) else ():
            validator.validate(name, value)


def config_of(kind: type[Config], config: Config | None = None, /, **options: Any) -> Config:
    """Return a config with the given options replaced.

    Args:
        kind: Class of the config.
        config: Config from which all other options are taken; None for their default values.
        options: Options or whole groups, by name; nested options need no path.

    Raises:
        UsageError: If an option is unknown or its value is wrong; the error suggests the nearest name.
    """
    if config is not None and not isinstance(config, kind):
        raise UsageError(f"{command_name(kind)} expects a {kind.__name__} or its options", found=type(config).__name__)
    options = {name: value for name, value in options.items() if value is not None or name not in _groups(kind)}
    check_types(kind, options)
    config = _replace_nested(kind, kind() if config is None else config, options)
    check_values(config, places=False)
    return config


PLAIN_TYPES = {
    int: (Integral, "a whole number"),
    float: (RealNumber, "a number"),
    bool: (bool, "True or False"),
    str: (str, "a word"),
}
"""Type of an option that cannot be None -> (abstract type to check values against, description for error messages)."""


def check_types(kind: type, values: Mapping[str, Any]) -> None:
    """Raise UsageError if a value has the wrong type for its option."""
    for name, hint in _types(kind).items():
        if name in values and name in flags_of(kind):
            type_validators = [TypeValidator(*PLAIN_TYPES[hint])] if hint in PLAIN_TYPES else []
            for validator in (*type_validators, *annotations_of(kind, name, TypeValidator)):
                validator.validate(name, values[name])


def _groups(config_class: type) -> set[str]:
    return {field.name for field in fields(config_class) if group(field) is not None}  # pyrefly: ignore - a dataclass


def _replace_nested(config_class: type[Config], config: Config, options: dict[str, Any]) -> Config:
    """Return a config with the given options replaced, including nested ones; values are not validated."""
    own_fields = {field.name: field for field in fields(config_class)}  # pyrefly: ignore - a dataclass
    groups = {name: subgroup for name, field in own_fields.items() if (subgroup := group(field)) is not None}
    group_names = {name: group_name for group_name, subgroup in groups.items() for name in flags_of(subgroup)}
    changes: dict[str, Any] = {name: options.pop(name) for name in own_fields if name in options}
    for name, value in changes.items():
        if name in groups and not isinstance(value, groups[name]):
            raise UsageError(f"an instance of {groups[name].__name__}", f"{value!r:.40}", argument=name)
    for name, value in options.items():
        if name not in group_names:
            raise unknown_option(config_class, name)
        group_name = group_names[name]
        group_config = changes.get(group_name, getattr(config, group_name))
        changes[group_name] = _replace_nested(groups[group_name], group_config, {name: value})
    return replace(config, **changes)  # pyrefly: ignore - a dataclass


def to_record(config: Any, excluded: Container[str] = ()) -> dict[str, Any]:
    """Return the non-default options as JSON data; options that exist only in Python are left out."""
    options, values = flags_of(config), values_of(config)
    names = (
        option
        for option in non_default_options(config)
        if option not in excluded and (flag_names(config, option) or is_positional(options[option]))
    )
    return {name: [*values[name]] if isinstance(values[name], tuple) else values[name] for name in names}


def from_record(kind: type[Config], content: Any) -> Config:
    """Return the config stored in a record, without checking that the files and folders in it exist.

    Raises:
        InputError: If an option is unknown or its value has the wrong type.
    """
    if not isinstance(content, dict):
        raise InputError(f"options of {kind.__name__}", f"{content!r:.40}", argument="config")
    types, options = _types(kind), flags_of(kind)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    for name, value in values.items():
        if name not in options:
            raise InputError(f"config: {kind.__name__} has no option {name!r:.40}: {did_you_mean(name, [*options])}")
        if not _fits(value, types[name]):
            raise InputError(f"config.{name}: expected {types[name]}", found=f"{value!r:.40}")
    return _replace_nested(kind, kind(), values)


def _fits(value: Any, hint: Any) -> bool:
    """Return True if a JSON value matches a type hint, which may be a union."""
    if isinstance(hint, UnionType):
        return any(_fits(value, alternative) for alternative in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(entry, get_args(hint)[0]) for entry in value)
    return hint in (bool, int, float, str) and (type(value) is hint or (hint is float and type(value) is int))


def python_options(kind: type) -> dict[str, Field[Any]]:
    """Return the keyword arguments of the Python function with the config class `kind`: single options, then groups."""
    options = {name: field for name, field in flags_of(kind).items() if name not in SHELL and not is_positional(field)}
    return options | {field.name: field for field in fields(kind) if group(field) is not None}  # pyrefly: ignore


def unknown_option(kind: type, name: str, known: Sequence[str] = (), of: str = "") -> UsageError:
    """Return the error for an unknown option name, with the nearest valid name as a suggestion.

    Args:
        kind: Class of the config.
        name: Unknown name.
        known: Valid names; default: all keyword arguments of the Python function.
        of: Name of the function or command in the error message; default: the command of the config class.
    """
    known = [*known] or [*python_options(kind)]
    alias = MEANT.get(name, "")
    field_path = alias if "." in alias else name if "." in name else ""
    if field_path and "fields" in known:
        remedy = f"Set the field of the recipe: fields={{{field_path!r}: ...}}"
    elif name in PARTS_OF_RECIPES and "fields" in known:
        remedy = f'Name its fields: fields={{"{name}.NAME": ...}}'
    elif suggestion := alias if alias in known else best_match(name, known, MIN_SIMILARITY):
        remedy = f"Did you mean {suggestion!r}?"
    else:
        remedy = None
    expected = f"an argument of {of or command_name(kind)}" + ("" if remedy else f": one of {', '.join(sorted(known))}")
    return UsageError(expected, repr(name), remedy, argument=name)


def accepts_options(kind: type) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Return a decorator that lets a function with a `config` argument also accept the options as keyword arguments.

    `scripts/write_stubs.py` writes stub files with these keyword arguments for type checkers.
    """
    for config_class in (kind, *filter(None, map(group, fields(kind)))):  # pyrefly: ignore - a dataclass
        show_options(config_class)

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        *params, config_param = inspect.signature(function).parameters.values()
        is_variadic = any(param.kind is inspect.Parameter.VAR_POSITIONAL for param in params)
        names = [param.name for param in params]
        options = {name: field for name, field in python_options(kind).items() if name not in names}

        @functools.wraps(function)
        def wrapper(*args: Any, config: Any = None, **options_given: Any) -> Result:
            if not is_variadic and len(args) > len(params):
                name = getattr(function, "__name__", "")
                raise UsageError(
                    f"at most {len(params)} positional arguments; options are keyword arguments",
                    f"{len(args)}",
                    f"Write {name}(..., target='income')" if name == "fit" else f"Write {name}(..., name=value)",
                    argument=name,
                )
            named_args = {name: options_given.pop(name) for name in names if name in options_given}
            for name in options_given:
                if name not in options:
                    raise unknown_option(kind, name)
            try:
                return function(*args, **named_args, config=config_of(kind, config, **options_given))
            except (InputError, UsageError) as error:
                error.args = (error.reworded(python_words),)
                raise

        hints, types = get_type_hints(function), _types(kind)
        wrapper.__annotations__ = {**hints, **{name: types[name] for name in options}}
        wrapper.__doc__ = f"{inspect.getdoc(function)}\n\n{_listing(kind, options)}"
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_usual(field), annotation=types[name])
            for name, field in options.items()
        ]
        wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # pyrefly: ignore
            [*params, *parameters, config_param.replace(default=None)], return_annotation=hints["return"]
        )
        return wrapper

    return decorate


@functools.cache
def _types(config_class: type) -> dict[str, Any]:
    """Return the type hints of all options and groups of a config by name; a group may also be None."""
    types = get_type_hints(config_class)
    for field in fields(config_class):  # pyrefly: ignore - a dataclass
        subgroup = group(field)
        types |= {} if subgroup is None else {**_types(subgroup), field.name: types[field.name] | None}
    return types


def _usual(field: Field[Any]) -> Any:
    """Return the default of an option as shown in a signature; None for a group."""
    return None if field.default is MISSING else field.default


OPTIONS = "Options, by name:"
"""Heading of the list of options in Python docstrings; the command line's --help omits the heading and all text after
it."""


def show_options(kind: type) -> None:
    """Add the list of options to the docstring of a config class, and the options to its signature."""
    if OPTIONS in (kind.__doc__ or ""):
        return
    own_fields = {field.name: field for field in fields(kind)}  # pyrefly: ignore - a dataclass
    options = {**flags_of(kind), **{name: field for name, field in own_fields.items() if group(field) is not None}}
    options = {name: field for name, field in options.items() if name not in SHELL}
    types = _types(kind)
    kind.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # pyrefly: ignore
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_usual(field), annotation=types[name])
            for name, field in options.items()
        ]
    )
    kind.__init__.__annotations__ = {name: types[name] for name in own_fields}
    listing = _listing(kind, options)
    kind.__doc__ = f"{inspect.getdoc(kind)}\n\n{listing}"


def _listing(config_class: type, options: Mapping[str, Field[Any]]) -> str:
    """Return the list of options for a docstring: name, type, default and description of each."""
    descriptions, types, lines = _descriptions_of(config_class), _types(config_class), [OPTIONS]
    for name, field in options.items():
        subgroup = group(field)
        type_text = f"{subgroup.__name__} | None" if subgroup else _written(types[name])
        lines.append(f"    {name}: {type_text} = {_usual(field)!r}. {descriptions.get(name, '')}".rstrip())
    return "\n".join(lines)


def _written(hint: Any) -> str:
    """Return a type hint as text without module names."""
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return re.sub(r"(?:\w+\.)+(\w+)", r"\1", text.replace("object | ", "").replace("NoneType", "None"))


@functools.cache
def _docs() -> dict[str, dict[str, str]]:
    """Return the attribute docstrings of all configs and groups of options, with argument names instead of flags."""
    sources = (pathlib.Path(__file__).with_name(name) for name in ("config.py", "option_groups.py"))
    docs: dict[str, dict[str, str]] = {}
    for class_def in [statement for file in sources for statement in ast.parse(file.read_text(encoding="utf-8")).body]:
        if isinstance(class_def, ast.ClassDef):
            descriptions = docs.setdefault(class_def.name, {})
            for attribute, following in itertools.pairwise(class_def.body):
                if (
                    isinstance(attribute, ast.AnnAssign)
                    and isinstance(following, ast.Expr)
                    and isinstance(following.value, ast.Constant)
                ):
                    descriptions[ast.unparse(attribute.target)] = python_words(
                        " ".join(str(following.value.value).split())
                    )
    return docs


def _descriptions_of(config_class: type) -> dict[str, str]:
    """Return the description of each option of a config by name, including options in nested groups."""
    descriptions = dict(_docs().get(config_class.__name__, {}))
    for subgroup in filter(None, map(group, fields(config_class))):  # pyrefly: ignore - a dataclass
        descriptions = {**_descriptions_of(subgroup), **descriptions}
    return descriptions


DEEP_FLAG = re.compile(r"--([a-z]+(?:\.[a-z_*-]+)+)(?: (?=[\d.])([\d.e-]+))?")
"""Regular expression for the flag of a nested field, such as --train.lr, optionally followed by a number."""


def python_words(text: str) -> str:
    """Replace command-line flags in a text by Python names: `--top-k` by top_k, `--train.lr` by field "train.lr"."""

    def replace_field(match: re.Match[str]) -> str:
        name = match[1].replace("-", "_")
        return f'fields={{"{name}": {match[2]}}}' if match[2] else f'the field "{name}"'

    text = DEEP_FLAG.sub(replace_field, text)
    return FLAG_PATTERN.sub(lambda match: match[1] or (match[2] or "").replace("-", "_"), text)
