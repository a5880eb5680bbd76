"""Types of flags and keyword arguments: values, choices, validators and tyro metadata."""

import abc
import ast
import contextlib
import importlib
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from numbers import Real as RealNumber
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import feller
from feller.core.errors import InputError, UsageError, check_number
from feller.core.run_folder import open_run
from feller.core.user_code import check_code_file, function_reference, import_path
from feller.data.path_checks import require_data

if TYPE_CHECKING:
    from feller.data.loading.in_memory import DataSource
    from feller.data.tables.schema import Schema
    from feller.training.trainer import Callback
else:  # importing them would load torch
    DataSource = Schema = Callback = object


def parse_pairs(words: tuple[str, ...]) -> dict[str, str | list[str]]:
    """Parse KEY=VALUE words into a dict; the value of a repeated key is the list of its values."""
    pairs: dict[str, str | list[str]] = {}
    for pair in words:
        key, separator, value = pair.partition("=")
        if not separator:
            raise UsageError("KEY=VALUE, or KEY=FROM..TO for a range", repr(pair))
        if (previous := pairs.get(key)) is None:
            pairs[key] = value
        else:
            pairs[key] = [*(previous if isinstance(previous, list) else [previous]), value]
    return pairs


def parse_guidance(words: Sequence[str]) -> float | dict[str, float]:
    """Parse one guidance scale, or KEY=SCALE words with one scale per condition."""
    if len(words) == 1 and "=" not in words[0]:
        return _scale(words[0])
    if not all("=" in word for word in words):
        raise UsageError("one number, or KEY=SCALE for each condition", repr(" ".join(words)), argument="guidance")
    return {name: _scale(text) for name, _, text in (word.partition("=") for word in words)}


def _scale(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError("a number", repr(text), argument="guidance") from None


class Validator(abc.ABC):
    """Base class of annotations that validate an option as soon as it is parsed."""

    @abc.abstractmethod
    def validate(self, field: str, value: Any) -> None:
        """Raise an error if `value` is invalid for the option `field`; None means that the option is not set."""


@dataclass(frozen=True)
class FunctionValidator(Validator):
    """Validator that wraps a function; the function raises an error for invalid values."""

    check: Callable[[Any], object]

    def validate(self, field: str, value: Any) -> None:
        try:
            self.check(value)
        except (InputError, UsageError) as error:
            raise error.with_context(argument=field) from error


@dataclass(frozen=True)
class NonEmpty(Validator):
    """Validator that rejects the empty string, which would otherwise be read as no value or as the current folder."""

    def validate(self, field: str, value: Any) -> None:
        if isinstance(value, str) and not value:
            raise UsageError("a value", "an empty one", "Leave it out or give a value", argument=field)


def _is_number(value: Any) -> bool:
    """Return True if the value is a string that contains a finite number."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


@dataclass(frozen=True)
class TypeValidator(Validator):
    """Validator of a value's Python type, for calls from Python; tyro checks the types of command-line words."""

    kind: type | tuple[type, ...]
    words: str
    remedy: str | None = None

    def validate(self, field: str, value: Any) -> None:
        if value is None or (isinstance(value, self.kind) and (not isinstance(value, bool) or self.kind is bool)):
            return
        remedy = self.remedy or (
            f"Write {value} without quotes" if _is_number(value) else "Leave it out for the default"
        )
        raise UsageError(self.words, f"{value!r:.60}", remedy, argument=field)


@dataclass(frozen=True)
class Limits(Validator):
    """Validator of the range of a number."""

    least: float
    most: float = math.inf
    above: bool = False
    """True if the value must be strictly greater than the lower bound."""

    def validate(self, field: str, value: Any) -> None:
        lower, strict_lower = (-math.inf, self.least) if self.above else (self.least, -math.inf)
        check_number(field, value, ge=lower, gt=strict_lower, le=self.most, lt=math.inf)


@dataclass(frozen=True)
class Choices:
    """Annotation that lists the values of an option, for shell completion."""

    words: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    """Sources of additional values, as module:NAME, where NAME is a dictionary, a tuple, or a function that returns a
    dictionary or a tuple."""

    def load_values(self) -> list[str]:
        """Return the possible values of the option, after importing the modules that define them."""
        values = list(self.words)
        for table in self.registries:
            module, _, name = table.partition(":")
            names = getattr(importlib.import_module(module), name)
            values += [choice.removesuffix("FILE") for choice in (names() if callable(names) else names)]
        return values


def field_names(place: str) -> list[str]:
    """Return the field names of the dataclass `place` (module:CLASS), parsed from its source to avoid a slow import."""
    module, _, name = place.partition(":")
    file = pathlib.Path(feller.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    statements = ast.parse(file.read_text(encoding="utf-8")).body
    class_def = next(
        statement for statement in statements if isinstance(statement, ast.ClassDef) and statement.name == name
    )
    return [ast.unparse(statement.target) for statement in class_def.body if isinstance(statement, ast.AnnAssign)]


@dataclass(frozen=True)
class OptionalValue:
    """Annotation of an option whose flag may stand alone on the command line."""

    value: str
    """Value of the option if the flag has none."""


Positional = tyro.conf.Positional
OptionalText = Annotated[str | None, NonEmpty(), tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
RawText = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
"""Option type: optional text, which may be empty."""
OptionalInt = Annotated[
    int | None, TypeValidator(Integral, "a whole number"), tyro.conf.arg(metavar="INT", help_behavior_hint="")
]
OptionalFloat = Annotated[
    float | None, TypeValidator(RealNumber, "a number"), tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")
]
PositiveInt = Annotated[OptionalInt, Limits(1.0)]
PositiveFloat = Annotated[OptionalFloat, Limits(0.0, above=True)]
"""Option type: optional positive number; the help text of the option states the default."""


def _count(args: list[str]) -> int:
    """Parse an integer, which may be written as 1e6 or 1_000_000."""
    with contextlib.suppress(ValueError):
        return int(args[0])
    with contextlib.suppress(ValueError, OverflowError):
        if (value := int(float(args[0]))) == float(args[0]):
            return value
    raise ValueError(f"expected int, got '{args[0]}'")


_COUNT = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="INT",
    instance_from_str=_count,
    is_instance=lambda value: isinstance(value, int),
    str_from_instance=lambda value: [str(value)],
)
LargeInt = Annotated[
    int | None, TypeValidator(Integral, "a whole number"), _COUNT, tyro.conf.arg(metavar="INT", help_behavior_hint="")
]
"""Option type: optional integer, which may be written as 1e6."""


def _if_given(check: Callable[[str], object]) -> FunctionValidator:
    """Return a validator that applies a check only to values other than None."""
    return FunctionValidator(lambda value: None if value is None else check(value))


def _each(check: Callable[[str], object]) -> FunctionValidator:
    return FunctionValidator(lambda values: [check(value) for value in values])


def check_schema(value: Any) -> None:
    """Raise an error if a schema passed as a Python object is invalid."""
    if value is not None and not isinstance(value, str | os.PathLike):
        from feller.data.tables.linked_schema_files import holds_linked_schema, linked_schema_of
        from feller.data.tables.schema import schema_of

        (linked_schema_of if holds_linked_schema(value) else schema_of)(value)


def _metavar(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def _spec(parser: Callable[[list[str]], Any], metavar: str, nargs: Any = 1) -> Any:
    """Return a tyro constructor that parses command-line words by `parser`, and accepts any value from Python."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=nargs,
        metavar=metavar,
        instance_from_str=parser,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [] if value is None or value == () else [str(value)],
    )


_ONE, _MANY = _spec(lambda words: words[0], "TEXT"), _spec(tuple, "TEXT ...", "*")
_PAIRS = _spec(lambda words: parse_pairs(tuple(words)), "KEY=VALUE ...", "*")


DataArgument = Positional[Annotated[str | None, _metavar("[DATA]"), _if_given(require_data)]]
DataPath = Annotated[OptionalText, _if_given(require_data)]
DataOrWord = Positional[Annotated[str | None, _metavar("[DATA]")]]
"""Positional argument: data to read, or the name of a subcommand."""
FileArgument = Positional[Annotated[str | None, _metavar("[FILE]"), _if_given(require_data)]]
RunArgument = Positional[Annotated[str | None, _metavar("[RUN]"), FunctionValidator(open_run)]]
RunPath = Annotated[OptionalText, _if_given(open_run)]
RunStart = Annotated[str | os.PathLike[str] | None, _ONE, _metavar("TEXT"), NonEmpty(), _if_given(open_run)]
Code = Annotated[str | Callable[..., object] | None, _ONE, _metavar("TEXT"), NonEmpty()]
"""Option type: a name, or a function as `file.py:FUNCTION`; in Python also the function itself."""
NumberOrWord = Annotated[float | str | None, _ONE, _metavar("TEXT"), NonEmpty()]
"""Option type: a number, or the name of a special value such as `auto`."""
LATENT = "learned"
"""Value of --latent without a run."""
LatentSource = Annotated[
    str | bool | os.PathLike[str] | None, _ONE, _metavar("[RUN]"), NonEmpty(), OptionalValue(LATENT)
]
"""Option type: a run; the flag alone or, in Python, True stands for an autoencoder that is trained first."""
ReportKind = Annotated[str | bool | None, _ONE, _metavar("TEXT"), NonEmpty()]
Targets = Annotated[str | tuple[str, ...] | list[str], _spec(tuple, "NAME ...", "*"), _metavar("NAME ...")]
Conditions = Annotated[
    Mapping[str, object] | None,
    _PAIRS,
    _metavar("KEY=VALUE ..."),
    TypeValidator(Mapping, "a dict of values by their names", 'Write {"column": value}'),
]
"""Option type: conditions as words `KEY=VALUE`; in Python a dict."""
Guidance = Annotated[
    float | Mapping[str, float] | None,
    _spec(parse_guidance, "FLOAT", "*"),
    _metavar("FLOAT"),
    TypeValidator((RealNumber, Mapping), "a number, or a dict from conditions to numbers"),
]
"""Option type: one guidance scale, or words `KEY=SCALE`; in Python also a dict."""
TableSource = Annotated[DataSource | None, _ONE, _metavar("TEXT"), NonEmpty()]
"""Option type: table as a file; in Python also as a data frame."""
DataOption = Annotated[
    DataSource | None,
    _ONE,
    _metavar("TEXT"),
    NonEmpty(),
    FunctionValidator(lambda value: require_data(value) if isinstance(value, str) else None),
]
"""Option type: data as a file, a folder or an example; in Python also as a Python object."""
SchemaSource = Annotated[
    str | os.PathLike[str] | Mapping[str, object] | Schema | None,
    _ONE,
    _metavar("TEXT"),
    NonEmpty(),
    FunctionValidator(check_schema),
]
"""Option type: schema as a file; in Python also as a dict with the content of the JSON file, or as a `Schema`."""
RecipeFields = Annotated[
    Mapping[str, object] | None,
    TypeValidator(Mapping, "a dict of values by the names of fields", 'Write {"train.batch_size": 64}'),
    tyro.conf.Suppress,
    tyro.conf.Fixed,
]
"""Option type: values of recipe fields by name; only in Python, because the command line has a flag for each field."""
RowsInMemory = Annotated[DataSource | None, tyro.conf.Suppress, tyro.conf.Fixed]
"""Option type: rows as a Python object; only in Python."""
Verbose = Annotated[bool | None, TypeValidator(bool, "True, False or None"), tyro.conf.Suppress]
"""Option type: True to show progress (default: in interactive sessions only); only in Python."""
Callbacks = Annotated[Sequence[Callback], tyro.conf.Suppress, tyro.conf.Fixed]
BaseRunArgument = Positional[Annotated[str | None, _metavar("[RUN]"), _if_given(open_run)]]
"""Option type: positional run folder; other options decide whether it defaults to the newest run."""
RunOrWord = Positional[Annotated[str | None, _metavar("[RUN]")]]
"""Option type: positional run folder, or a keyword of the command, such as `calculator`."""
CodePath = Annotated[OptionalText, _if_given(check_code_file)]
KeyValues = Annotated[tuple[str, ...], _metavar("KEY=VALUE ...")]
_REWARDS = tyro.conf.arg(name="rewards", aliases=("--reward",), metavar="TEXT ...", help_behavior_hint="")
RewardTexts = Annotated[tuple[str, ...], _REWARDS]
Rewards = Annotated[str | Callable[..., object] | Sequence[str | Callable[..., object]], _MANY, _REWARDS]
"""Option type: one or more rewards; --rewards is an alias of --reward."""
ImportArgument = Positional[Annotated[str, tyro.conf.arg(metavar="FOLDER|FILE.py:FUNCTION")]]
DataArguments = Positional[Annotated[tuple[str, ...], _metavar("A B ..."), _each(require_data)]]
RunArguments = Positional[Annotated[tuple[str, ...], _metavar("[RUN ...]"), _each(open_run)]]
Costs = Annotated[str | Callable[..., object] | Sequence[str | Callable[..., object]], _MANY, _metavar("TEXT ...")]
Names = Annotated[tuple[str, ...], _metavar("NAME ...")]
Numbers = Annotated[tuple[float, ...], _metavar("NUMBER ...")]
FileAndText = Annotated[tuple[str, ...], _metavar("FILE TEXT")]


def aliases(*names: str) -> Any:
    """Return an annotation that adds aliases to a flag, such as -n."""
    return tyro.conf.arg(aliases=names)


def flag_name(name: str) -> Any:
    """Return an annotation that renames a flag, for example because its name is a Python keyword."""
    return tyro.conf.arg(name=name.removeprefix("--"))


def normalize_fields(config: Any, **readers: Callable[[Any], Any]) -> None:
    """Convert fields of a frozen config, in place, to the form in which the run stores them, such as texts.

    Each keyword argument in `readers` is the name of a field with the function that converts its value.
    """
    for name, convert in readers.items():
        object.__setattr__(config, name, convert(getattr(config, name)))


def as_texts(value: Any) -> tuple[str, ...]:
    """Return a string or a sequence of strings as a tuple of strings."""
    return (value,) if isinstance(value, str) else tuple(value)


def code_of(what: str) -> Callable[[Any], Any]:
    """Return a converter from a Python function or class to the text `file.py:NAME`.

    The converter leaves other values unchanged. `what` is the name of the option in the error
    message for a function that is not in a file.
    """
    return lambda value: import_path(value, what) if callable(value) else value


def as_reward_texts(value: Any) -> tuple[str, ...]:
    """Return rewards or costs as a tuple of strings; a Python function becomes `file.py:FUNCTION`."""
    rewards = (value,) if isinstance(value, str) or callable(value) else value
    return tuple(function_reference(reward) if callable(reward) else reward for reward in rewards)


def plain_path(value: Any) -> Any:
    """Return a path object as a string, and any other value unchanged."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def as_run_path(value: Any) -> Any:
    """Return the folder of a run object or model object, or a path, as a string."""
    return os.fspath(value.path) if hasattr(value, "path") else value if value is None else os.fspath(value)


def as_latent(value: Any) -> Any:
    """Return the autoencoder of `latent` as a string: True as `learned`, False as None, and a run as its folder."""
    return (LATENT if value else None) if isinstance(value, bool) else as_run_path(value)
