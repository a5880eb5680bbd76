"""Types of flags: values, choices, validators and metadata."""

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
else:  # which would load torch; the command line takes none of them
    DataSource = Schema = Callback = object


def parse_pairs(words: tuple[str, ...]) -> dict[str, str | list[str]]:
    """Split KEY=VALUE; a key that stands several times has a list of values."""
    pairs: dict[str, str | list[str]] = {}
    for word in words:
        key, is_there, value = word.partition("=")
        if not is_there:
            raise UsageError("KEY=VALUE", repr(word), argument="given")
        if (before := pairs.get(key)) is None:
            pairs[key] = value
        else:
            pairs[key] = [*(before if isinstance(before, list) else [before]), value]
    return pairs


class Validator(abc.ABC):
    """Marks what is looked at as soon as it is read."""

    @abc.abstractmethod
    def validate(self, field: str, value: Any) -> None:
        """Refuse a value of a field that is wrong; None is what was left out."""


@dataclass(frozen=True)
class FunctionValidator(Validator):
    """Leaves it to a function, which raises where a value is wrong."""

    check: Callable[[Any], object]

    def validate(self, field: str, value: Any) -> None:
        try:
            self.check(value)
        except (InputError, UsageError) as error:
            raise error.with_context(argument=field) from error


@dataclass(frozen=True)
class NonEmpty(Validator):
    """Takes no empty text, which would count as nothing or as this folder."""

    def validate(self, field: str, value: Any) -> None:
        if isinstance(value, str) and not value:
            raise UsageError("a value", "an empty one", "Leave it out, or say what it is", argument=field)


def _is_number(value: Any) -> bool:
    """Tell whether words are a number in quotes."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


@dataclass(frozen=True)
class TypeValidator(Validator):
    """Takes values of a type alone; the command line reads no others."""

    kind: type | tuple[type, ...]
    words: str
    remedy: str | None = None

    def validate(self, field: str, value: Any) -> None:
        if value is None or (isinstance(value, self.kind) and (not isinstance(value, bool) or self.kind is bool)):
            return
        remedy = self.remedy or (f"Write {value} without quotes" if _is_number(value) else "Leave it out for the usual")
        raise UsageError(self.words, f"{value!r:.60}", remedy, argument=field)


@dataclass(frozen=True)
class Limits(Validator):
    """Takes numbers from one to another."""

    least: float
    most: float = math.inf
    above: bool = False
    """The least itself is out."""

    def validate(self, field: str, value: Any) -> None:
        least, above = (-math.inf, self.least) if self.above else (self.least, -math.inf)
        check_number(field, value, ge=least, gt=above, le=self.most, lt=math.inf)


@dataclass(frozen=True)
class Choices:
    """Marks what a shell offers; files it offers anyway."""

    words: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    """Where names are kept: module:NAME of a dictionary, a tuple or a function that returns one of these."""

    def load_values(self) -> list[str]:
        """Return the words; loads what holds them."""
        values = list(self.words)
        for table in self.registries:
            module, _, name = table.partition(":")
            names = getattr(importlib.import_module(module), name)
            values += [one.removesuffix("FILE") for one in (names() if callable(names) else names)]
        return values


def field_names(place: str) -> list[str]:
    """Return the names of the fields of a dataclass, module:CLASS, as its file says them: to load it takes seconds."""
    module, _, name = place.partition(":")
    file = pathlib.Path(feller.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    statements = ast.parse(file.read_text(encoding="utf-8")).body
    kind = next(part for part in statements if isinstance(part, ast.ClassDef) and part.name == name)
    return [ast.unparse(part.target) for part in kind.body if isinstance(part, ast.AnnAssign)]


Positional = tyro.conf.Positional
OptionalText = Annotated[str | None, NonEmpty(), tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
RawText = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
"""Words of a person, of which there may be none."""
OptionalInt = Annotated[
    int | None, TypeValidator(Integral, "a whole number"), tyro.conf.arg(metavar="INT", help_behavior_hint="")
]
OptionalFloat = Annotated[
    float | None, TypeValidator(RealNumber, "a number"), tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")
]
PositiveInt = Annotated[OptionalInt, Limits(1.0)]
PositiveFloat = Annotated[OptionalFloat, Limits(0.0, above=True)]
"""What may be left out; its help says what that means, so that it shows no default."""


def _count(words: list[str]) -> int:
    """Read a whole number, also as 1e6 or 1_000_000."""
    with contextlib.suppress(ValueError):
        return int(words[0])
    with contextlib.suppress(ValueError, OverflowError):
        if (number := int(float(words[0]))) == float(words[0]):
            return number
    raise ValueError(f"expected int, got '{words[0]}'")


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
"""A whole number that may be large: 1e6 is one."""


def _if_given(check: Callable[[str], object]) -> FunctionValidator:
    """Look at what is given; what it means if nothing is, the command says."""
    return FunctionValidator(lambda value: None if value is None else check(value))


def _each(check: Callable[[str], object]) -> FunctionValidator:
    return FunctionValidator(lambda values: [check(value) for value in values])


def check_schema(value: Any) -> None:
    """Refuse what is no schema, of one in memory."""
    if value is not None and not isinstance(value, str | os.PathLike):
        from feller.data.tables.schema import schema_of

        schema_of(value)


def _metavar(metavar: str) -> Any:
    """Show what a flag takes, and no default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def _spec(read: Callable[[list[str]], Any], metavar: str, nargs: Any = 1) -> Any:
    """Return how words become a value that Python also takes as another type."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=nargs,
        metavar=metavar,
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [] if value is None or value == () else [str(value)],
    )


_ONE, _MANY = _spec(lambda words: words[0], "TEXT"), _spec(tuple, "TEXT ...", "*")
_PAIRS = _spec(lambda words: parse_pairs(tuple(words)), "KEY=VALUE ...", "*")


DataArgument = Positional[Annotated[str | None, _metavar("[DATA]"), _if_given(require_data)]]
DataPath = Annotated[OptionalText, _if_given(require_data)]
DataOrWord = Positional[Annotated[str | None, _metavar("[DATA]")]]
"""Words of the command's own are none."""
FileArgument = Positional[Annotated[str | None, _metavar("[FILE]"), _if_given(require_data)]]
RunArgument = Positional[Annotated[str | None, _metavar("[RUN]"), FunctionValidator(open_run)]]
RunPath = Annotated[OptionalText, _if_given(open_run)]
RunStart = Annotated[str | os.PathLike[str] | None, _ONE, _metavar("TEXT"), NonEmpty(), _if_given(open_run)]
Code = Annotated[str | Callable[..., object] | None, _ONE, _metavar("TEXT"), NonEmpty()]
"""A name, or `file.py:FUNCTION`; in Python also the function."""
NumberOrWord = Annotated[float | str | None, _ONE, _metavar("TEXT"), NonEmpty()]
"""A number, or a word."""
ReportKind = Annotated[str | bool | None, _ONE, _metavar("TEXT"), NonEmpty()]
Targets = Annotated[str | tuple[str, ...], _spec(tuple, "NAME ...", "*"), _metavar("NAME ...")]
Conditions = Annotated[
    Mapping[str, object] | None,
    _PAIRS,
    _metavar("KEY=VALUE ..."),
    TypeValidator(Mapping, "a dict of values by their names", 'Write {"column": value}'),
]
"""`KEY=VALUE ...`; in Python a dict."""
TableSource = Annotated[DataSource | None, _ONE, _metavar("TEXT"), NonEmpty()]
"""A table, a file or a data frame."""
DataOption = Annotated[
    DataSource | None,
    _ONE,
    _metavar("TEXT"),
    NonEmpty(),
    FunctionValidator(lambda value: require_data(value) if isinstance(value, str) else None),
]
"""What data are read from."""
SchemaSource = Annotated[
    str | os.PathLike[str] | Mapping[str, object] | Schema | None,
    _ONE,
    _metavar("TEXT"),
    NonEmpty(),
    FunctionValidator(check_schema),
]
"""A file; in Python also a dict as its JSON holds it, or a `Schema`."""
RecipeFields = Annotated[
    Mapping[str, object] | None,
    TypeValidator(Mapping, "a dict of values by the names of fields", 'Write {"train.batch_size": 64}'),
    tyro.conf.Suppress,
    tyro.conf.Fixed,
]
"""Fields of the recipe by their names, in Python alone: the command line has flags for them."""
RowsInMemory = Annotated[DataSource | None, tyro.conf.Suppress, tyro.conf.Fixed]
"""Rows that only Python has."""
Verbose = Annotated[bool | None, TypeValidator(bool, "True, False or None"), tyro.conf.Suppress]
"""Whether progress shows; by default where people look: the command line always shows it."""
Callbacks = Annotated[Sequence[Callback], tyro.conf.Suppress, tyro.conf.Fixed]
BaseRunArgument = Positional[Annotated[str | None, _metavar("[RUN]"), _if_given(open_run)]]
"""Left out, it need not be the newest run."""
RunOrWord = Positional[Annotated[str | None, _metavar("[RUN]")]]
"""Words of the command's own are none."""
CodePath = Annotated[OptionalText, _if_given(check_code_file)]
KeyValues = Annotated[tuple[str, ...], _metavar("KEY=VALUE ...")]
_REWARDS = tyro.conf.arg(name="rewards", aliases=("--reward",), metavar="TEXT ...", help_behavior_hint="")
RewardTexts = Annotated[tuple[str, ...], _REWARDS]
Rewards = Annotated[str | Callable[..., object] | Sequence[str | Callable[..., object]], _MANY, _REWARDS]
"""`--reward`, as help shows it first; where there are several, people also write `--rewards`."""
CodeArgument = Positional[Annotated[str, tyro.conf.arg(metavar="FILE.py:FUNCTION")]]
DataArguments = Positional[Annotated[tuple[str, ...], _metavar("A B ..."), _each(require_data)]]
RunArguments = Positional[Annotated[tuple[str, ...], _metavar("[RUN ...]"), _each(open_run)]]
Costs = Annotated[str | Callable[..., object] | Sequence[str | Callable[..., object]], _MANY, _metavar("TEXT ...")]
Names = Annotated[tuple[str, ...], _metavar("NAME ...")]
Numbers = Annotated[tuple[float, ...], _metavar("NUMBER ...")]
FileAndText = Annotated[tuple[str, ...], _metavar("FILE TEXT")]


def aliases(*names: str) -> Any:
    """Give a flag other names, such as -n."""
    return tyro.conf.arg(aliases=names)


def flag_name(name: str) -> Any:
    """Give a flag another name than its field, such as one that Python keeps for itself."""
    return tyro.conf.arg(name=name.removeprefix("--"))


def normalize_fields(config: Any, **readers: Callable[[Any], Any]) -> None:
    """Bring fields of a frozen config to the form that is recorded, where Python takes several."""
    for name, read in readers.items():
        object.__setattr__(config, name, read(getattr(config, name)))


def as_texts(value: Any) -> tuple[str, ...]:
    """Return several words, of which one may stand alone."""
    return (value,) if isinstance(value, str) else tuple(value)


def code_of(what: str) -> Callable[[Any], Any]:
    """Return what makes `file.py:NAME` of code of a person's own, and leaves other values as they are."""
    return lambda value: import_path(value, what) if callable(value) else value


def as_reward_texts(value: Any) -> tuple[str, ...]:
    """Return words for rewards or costs, of which one may stand alone, or be a function."""
    several = (value,) if isinstance(value, str) or callable(value) else value
    return tuple(function_reference(one) if callable(one) else one for one in several)


def plain_path(value: Any) -> Any:
    """Return the words of a path, and other values as they are."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def as_run_path(value: Any) -> Any:
    """Return the folder of what has one, and other values as they are."""
    return os.fspath(value.path) if hasattr(value, "path") else value if value is None else os.fspath(value)
