"""Arguments by name that a function does not take, told in words."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from feller.core.errors import UsageError
from feller.core.serialization import closest

P = ParamSpec("P")
R = TypeVar("R")
PRIVATE = ("epsilon", "delta", "noise", "clip")
"""What a private fit is asked for with on the command line."""
ALIKE = 0.7
"""How alike two names must be for one to be meant by the other."""


def known_by_name(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, which refuses arguments that it does not take with the name that was meant."""
    names = [*inspect.signature(function).parameters]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise UsageError(f"{function.__name__} takes no argument {name!r}{_instead(name, names)}")
        return function(*args, **kwargs)

    return checked


def _instead(name: str, names: list[str]) -> str:
    """Say what to do instead."""
    if name in PRIVATE:
        command = "`feller fit people.csv --epsilon 4 --out runs/people`"
        return f": a private fit takes files only, by the command {command}"
    if close := closest(name, names, ALIKE):
        return f": did you mean {close!r}?"
    return "; help(feller.fit) lists those it takes"
