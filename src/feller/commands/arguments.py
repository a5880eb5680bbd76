"""From words to commands; the only place that knows tyro."""

import contextlib
from dataclasses import fields, replace
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import tyro

from feller.commands.refusal import plainly
from feller.errors import UsageError
from feller.record import nearest

T = TypeVar("T")
Positional = tyro.conf.Positional
Text = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
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
DataPlace = Positional[Annotated[str | None, tyro.conf.arg(metavar="[DATA]", help_behavior_hint="")]]
FilePlace = Positional[Annotated[str | None, tyro.conf.arg(metavar="[FILE]", help_behavior_hint="")]]
RunPlace = Positional[Annotated[str | None, tyro.conf.arg(metavar="[RUN]", help_behavior_hint="")]]
Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...", help_behavior_hint="")]
Wishes = Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--rewards",), metavar="TEXT ...", help_behavior_hint="")]
CodePlace = Positional[Annotated[str, tyro.conf.arg(metavar="FILE.py:FUNCTION")]]
Places = Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="A B ...", help_behavior_hint="")]]
RunPlaces = Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[RUN ...]", help_behavior_hint="")]]
Costs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...", help_behavior_hint="")]
Numbers = Annotated[tuple[float, ...], tyro.conf.arg(metavar="NUMBER ...", help_behavior_hint="")]
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")]
Pair = Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE TEXT", help_behavior_hint="")]
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


def flag_names(command: Any, field: str) -> list[str]:
    """Return the flags of a field of a command; none of a place or of what no word sets."""
    known = getattr(command.__dataclass_fields__[field].type, "__metadata__", ())
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
    """
    _check_many(words)
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


def check_names(words: list[str], command: Any, deeper: list[str]) -> None:
    """Refuse words that are neither a flag of a command nor a field of the recipe, before anything is read.

    Raises:
        UsageError: If there is one; says which are near.
    """
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
