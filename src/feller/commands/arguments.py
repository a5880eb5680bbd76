"""From words to commands; the only place that knows tyro."""

from typing import Annotated, Any, TypeVar

import tyro

from feller.errors import UsageError

T = TypeVar("T")
Positional = tyro.conf.Positional
Text = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
"""What may be left out; its help says what that means, so that it shows no default."""
DataPlace = Positional[Annotated[str | None, tyro.conf.arg(metavar="[DATA]", help_behavior_hint="")]]
RunPlace = Positional[Annotated[str | None, tyro.conf.arg(metavar="[RUN]", help_behavior_hint="")]]
Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...", help_behavior_hint="")]
MANY = ("--given", "--reward")
"""Flags that take as many values as are given."""
_FORM = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes)


def short(*names: str) -> Any:
    """Give a flag other names, such as -n."""
    return tyro.conf.arg(aliases=names)


def _check_once(words: list[str]) -> None:
    """Refuse a flag of many values that stands twice, of which only the last would count.

    Raises:
        UsageError: If there is one.
    """
    for flag in MANY:
        if sum(word.partition("=")[0] == flag for word in words) > 1:
            raise UsageError(f"{flag} stands twice; give it once, with all that it takes behind it")


def parse(command: type[T], name: str, words: list[str], *, deep: bool = False) -> tuple[T, list[str]]:
    """Return a command and, if it takes deeper fields, the words that are none of its flags.

    Wrong words end the program with status 2, after a message that names the nearest right ones.
    """
    _check_once(words)
    if deep:
        return tyro.cli(command, prog=f"feller {name}", args=words, config=_FORM, return_unknown_args=True)
    return tyro.cli(command, prog=f"feller {name}", args=words, config=_FORM), []


def change_fields(value: T, words: list[str]) -> T:
    """Set deeper fields of a frozen value, as `--train.lr 1e-4` does; `--help` shows the whole tree and ends.

    A word that is no field ends the program with status 2.
    """
    return tyro.cli(type(value), prog="feller fit DATA", args=words, default=value, config=_FORM)
