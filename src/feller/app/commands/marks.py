"""What is known of the value of a flag or a place beside its type, before anything that takes long is loaded."""

import abc
import ast
import importlib
import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import feller
from feller.core.errors import UsageError


class Look(abc.ABC):
    """Marks what is looked at as soon as it is read."""

    @abc.abstractmethod
    def look(self, flag: str, value: Any) -> None:
        """Refuse a value of a flag that is wrong; None is what was left out."""


@dataclass(frozen=True)
class Checked(Look):
    """Leaves it to a function, which raises where a value is wrong."""

    check: Callable[[Any], object]

    def look(self, flag: str, value: Any) -> None:
        """Call the function."""
        self.check(value)


@dataclass(frozen=True)
class Filled(Look):
    """Takes no empty text, which would count as nothing or as this folder."""

    def look(self, flag: str, value: Any) -> None:
        """Refuse it."""
        if value == "":
            raise UsageError(f"{flag} needs a value, got an empty one; leave it out, or say what it is")


@dataclass(frozen=True)
class Limits(Look):
    """Takes numbers from one to another."""

    least: float
    most: float = math.inf
    above: bool = False
    """The least itself is out."""

    def look(self, flag: str, value: Any) -> None:
        """Refuse others, those that are no number among them."""
        if value is None:
            return
        if (self.least < value if self.above else self.least <= value) and value <= self.most and value < math.inf:
            return
        if self.most < math.inf:
            limits = f"from {self.least:g} to {self.most:,g}"
        elif self.above:
            limits = f"above {self.least:g} and finite"
        else:
            limits = f"at least {self.least:g}" + ("" if isinstance(value, int) else " and finite")
        raise UsageError(f"{flag} must be {limits}, got {value if isinstance(value, int) else f'{value:g}'}")


@dataclass(frozen=True)
class Offers:
    """Marks what a shell offers; files it offers anyway."""

    words: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    """Where names are kept: module:NAME of a dictionary, a tuple or a function that returns one of these."""
    runs: bool = False
    """Run folders, those under runs/ and others nearby."""
    before: str = ""
    """What stands before each name of the tables."""

    def all_words(self) -> list[str]:
        """Return the words; loads what holds them."""
        found = list(self.words)
        for table in self.tables:
            module, _, name = table.partition(":")
            names = getattr(importlib.import_module(module), name)
            found += [f"{self.before}{one.removesuffix('FILE')}" for one in (names() if callable(names) else names)]
        return found


def field_names(place: str) -> list[str]:
    """Return the names of the fields of a dataclass, module:CLASS, as its file says them: to load it takes seconds."""
    module, _, name = place.partition(":")
    file = pathlib.Path(feller.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    parts = ast.parse(file.read_text(encoding="utf-8")).body
    kind = next(part for part in parts if isinstance(part, ast.ClassDef) and part.name == name)
    return [ast.unparse(part.target) for part in kind.body if isinstance(part, ast.AnnAssign)]
