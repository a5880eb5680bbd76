"""From words to commands; the only place that knows tyro."""

import contextlib
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import docstring_parser
import tyro

from feller.code import check_code
from feller.commands.marks import Checked, Filled, Limits, Look, Offers, field_names
from feller.commands.refusal import plainly
from feller.errors import UsageError
from feller.places import check_data
from feller.record import nearest
from feller.run import open_run
from feller.shipped import EXAMPLE

T = TypeVar("T")
Mark = TypeVar("Mark")
Positional = tyro.conf.Positional
Text = Annotated[str | None, Filled(), tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Said = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
"""Words of a person, of which there may be none."""
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Counted = Annotated[Whole, Limits(1.0)]
Positive = Annotated[Real, Limits(0.0, above=True)]
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
Count = Annotated[int | None, _COUNT, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
"""A whole number that may be large: 1e6 is one."""


def _if_given(check: Callable[[str], object]) -> Checked:
    """Look at what is given; what it means if nothing is, the command says."""
    return Checked(lambda value: None if value is None else check(value))


def _each(check: Callable[[str], object]) -> Checked:
    return Checked(lambda values: [check(value) for value in values])


def _shown(metavar: str) -> Any:
    """Show what a flag takes, and no default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


_RUNS, _EXAMPLES = Offers(runs=True), Offers(tables=("feller.shipped:SHIPPED",), before=EXAMPLE)
DataPlace = Positional[Annotated[str | None, _shown("[DATA]"), _if_given(check_data), _EXAMPLES]]
DataText = Annotated[Text, _if_given(check_data), _EXAMPLES]
DataOrWord = Positional[Annotated[str | None, _shown("[DATA]"), _EXAMPLES]]
"""Words of the command's own are none."""
FilePlace = Positional[Annotated[str | None, _shown("[FILE]"), _if_given(check_data), _EXAMPLES]]
RunPlace = Positional[Annotated[str | None, _shown("[RUN]"), Checked(open_run), _RUNS]]
RunText = Annotated[Text, _if_given(open_run), _RUNS]
BasePlace = Positional[Annotated[str | None, _shown("[RUN]"), _if_given(open_run), _RUNS]]
"""Left out, it need not be the newest run."""
RunOrWord = Positional[Annotated[str | None, _shown("[RUN]"), _RUNS]]
"""Words of the command's own are none."""
CodeText = Annotated[Text, _if_given(check_code)]
Words = Annotated[tuple[str, ...], _shown("KEY=VALUE ...")]
Wishes = Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--rewards",), metavar="TEXT ...", help_behavior_hint="")]
CodePlace = Positional[Annotated[str, tyro.conf.arg(metavar="FILE.py:FUNCTION")]]
Places = Positional[Annotated[tuple[str, ...], _shown("A B ..."), _each(check_data), _EXAMPLES]]
RunPlaces = Positional[Annotated[tuple[str, ...], _shown("[RUN ...]"), _each(open_run), _RUNS]]
Costs = Annotated[tuple[str, ...], _shown("TEXT ...")]
Numbers = Annotated[tuple[float, ...], _shown("NUMBER ...")]
Names = Annotated[tuple[str, ...], _shown("NAME ...")]
Pair = Annotated[tuple[str, ...], _shown("FILE TEXT")]
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
_FORM = (tyro.conf.FlagCreatePairsOff, *_DEEP)


def short(*names: str) -> Any:
    """Give a flag other names, such as -n."""
    return tyro.conf.arg(aliases=names)


def named(name: str) -> Any:
    """Give a flag another name than its field, such as one that Python keeps for itself."""
    return tyro.conf.arg(name=name.removeprefix("--"))


def marks(command: Any, field: str, kind: type[Mark]) -> list[Mark]:
    """Return the marks of a kind at a field of a command."""
    return [mark for mark in _known(command, field) if isinstance(mark, kind)]


def _known(command: Any, field: str) -> tuple[Any, ...]:
    """Return what is said of a field beside its type."""
    return getattr(command.__dataclass_fields__[field].type, "__metadata__", ())


def flag_names(command: Any, field: str) -> list[str]:
    """Return the flags of a field of a command; none of a place or of what no word sets."""
    known = _known(command, field)
    if any(getattr(one, "__name__", str(one)).endswith(("Positional", "Suppress", "Fixed")) for one in known):
        return []
    given = [one for one in known if hasattr(one, "aliases")]
    name = next((one.name for one in given if one.name), field.replace("_", "-"))
    others = [alias for one in given for alias in one.aliases or ()]
    return [*([] if f"-{name}" in others else [f"--{name}"]), *others]


def _check_many(words: list[str]) -> None:
    """Refuse a flag of many values that stands twice, of which only the last would count, or has none behind it.

    Raises:
        UsageError: If there is one.
    """
    for flags in MANY:
        if sum(word.partition("=")[0] in flags for word in words) > 1:
            raise UsageError(f"{flags[0]} stands twice; give it once, with all that it takes behind it")
        if any(word in flags and behind.startswith("--") for word, behind in pairwise([*words, "--"])):
            raise UsageError(f"{flags[0]} needs a value")


def parse(command: type[T], name: str, words: list[str], *, deep: bool = False) -> tuple[T, list[str]]:
    """Return a command and, if it takes deeper fields, the words that are none of its flags.

    Raises:
        UsageError: If words are wrong; names the nearest right ones.
        InputError: If there is nothing at a place that is named.
    """
    _check_many(words)
    if not {"-h", "--help"}.isdisjoint(words):
        _unwrap_help(command)
    found, rest = _parsed(command, name, words, deep=deep)
    looked: Any = found
    for one in fields(looked):
        for mark in marks(command, one.name, Look):
            mark.look((flag_names(command, one.name) or [one.name])[0], getattr(found, one.name))
    return found, rest


def _unwrap_help(command: Any) -> None:
    """Let the help break lines where the terminal ends, and not also where the source does."""
    for kind in reversed(command.__mro__[:-1]):
        for told in docstring_parser.parse_from_object(kind).params:
            field = command.__dataclass_fields__[told.arg_name]
            field.metadata = {**field.metadata, "help": " ".join((told.description or "").split())}


def _parsed(command: type[T], name: str, words: list[str], *, deep: bool) -> tuple[T, list[str]]:
    """Return a command, and the words that are none of its flags; nothing is looked at yet."""
    if deep:
        both: Any = plainly(
            lambda: tyro.cli(command, prog=f"feller {name}", args=words, config=_FORM, return_unknown_args=True)
        )
        found, rest = both
        absent = {one.name: one.default for one in fields(found) if getattr(found, one.name) == NOTHING}
        return replace(found, **absent), rest
    return plainly(lambda: tyro.cli(command, prog=f"feller {name}", args=words, config=_FORM)), []


def change_fields(value: T, words: list[str], command: str) -> T:
    """Set deeper fields of a frozen value, as `--train.lr 1e-4` does; `--help` shows the whole tree and ends.

    Raises:
        UsageError: If a word is no field, or a value is none of its.
    """
    return plainly(lambda: tyro.cli(type(value), prog=f"feller {command}", args=words, default=value, config=_DEEP))


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
    flags = [f"--{one.name.replace('_', '-')}" for one in fields(command) if one.name not in ("data", "folder")]
    for word in words:
        name = word.split("=")[0].removeprefix("--").split(".")[0].replace("-", "_")
        if word.startswith("--") and name not in (*deeper, "help"):
            kind = command.__name__.lower()
            raise UsageError(f"{kind} has no flag {word}: {nearest(word, flags)}; and the recipe's fields, see --help")


def words_of(command: Any) -> list[str]:
    """Return the words that make a command again: its name, and what differs from the usual."""
    words = [type(command).__name__.lower()]
    for one in fields(command):
        value = getattr(command, one.name)
        if value == one.default or one.name == "json":
            continue
        flag = f"-{one.name}" if len(one.name) == 1 else f"--{one.name.replace('_', '-')}"
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        words += [*(() if one.name in ("data", "folder") else (flag,)), *map(str, values)]
    return words
