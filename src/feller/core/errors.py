"""Errors in one line, with fields that each surface puts into its own words."""

import difflib
import errno
import math
import pathlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of an `OSError`: there is no room to write."""
BAD_PATH_ERRNOS = (errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP)
"""Of an `OSError`: something is wrong with a place that was named, and not with us."""
OUT_OF_MEMORY_PHRASES = ("not enough memory", "can't allocate memory", "out of memory")
"""Words, in small letters, of PyTorch's messages where there is none."""
BEYOND = 1e15
"""Ends of an interval that nobody needs to hear of."""
MAX_MESSAGE_LENGTH = 1_200
"""Letters of a line: what files of strangers are quoted with may be endless."""
FLAG_PATTERN = re.compile(r"(`[^`]*`|\bfeller [a-z]+\b[^;()`]*)|(?<![\w-])--?([a-z][a-z-]*)(?![\w-]|\.\w)")
"""Whole commands, which stay as they are, and flags outside them."""

Line = TypeVar("Line", bound="_OneLineError")


class _OneLineError(ValueError):
    """An error in one line, composed of fields that may quote anything.

    Args:
        facts: Either one: what is wrong, where nothing in particular was expected. Or two or three: what was expected,
            what was found, and what to do.
        argument: Name of the argument, field or key, as in Python.
        expected: What it must be.
        found: What it is.
        remedy: What to do, as a sentence.
        file: File or folder.
        row: Number of the row, as its file counts, or position of the example in a batch.
        column: Name of the column, or its number.
        place: Where in the file, in words, where it has no rows and columns.
    """

    def __init__(
        self,
        *facts: object,
        argument: str | None = None,
        expected: str | None = None,
        found: object | None = None,
        remedy: str | None = None,
        file: object | None = None,
        row: int | None = None,
        column: str | int | None = None,
        place: object | None = None,
    ) -> None:
        self.message = str(facts[0]) if len(facts) == 1 else None
        if len(facts) > 1:
            expected, found = str(facts[0]), str(facts[1])
            remedy = remedy if len(facts) < 3 or facts[2] is None else str(facts[2])
        self.argument, self.expected, self.remedy, self.row, self.column = argument, expected, remedy, row, column
        self.found, self.file, self.place = (None if one is None else str(one) for one in (found, file, place))
        super().__init__(self.format())

    def with_context(
        self: Line,
        *,
        argument: str | None = None,
        file: object | None = None,
        place: object | None = None,
        row: int | None = None,
        column: str | int | None = None,
    ) -> Line:
        """Return the same error, farther out: fields that it has already stay, and places are named from outside in."""
        inner = self.place
        if file is not None and inner is not None and inner.startswith(str(file)):
            inner = inner[len(str(file)) :].lstrip(" :,")
        return self._with(
            argument=argument if self.argument is None else self.argument,
            file=self.file if self.file is not None or file is None else str(file),
            place=", ".join(str(one) for one in (place, inner) if one) or None,
            row=row if self.row is None else self.row,
            column=column if self.column is None else self.column,
        )

    def with_path_replaced(self: Line, old: str, new: str) -> Line:
        """Return the same error, with another name of a file."""
        texts = {name: value for name, value in vars(self).items() if isinstance(value, str)}
        return self._with(**{name: value.replace(old, new) for name, value in texts.items()})

    def advising(self: Line, remedy: str) -> Line:
        """Return the same error, with what to do."""
        return self._with(remedy=remedy)

    def reworded(self, words: Callable[[str], str]) -> str:
        """Return the line in other words, but for what it quotes of a person."""
        quoted = self.found is not None and self.found[:1] in ("'", '"')
        names = ("message", "expected", "remedy", "place", *(() if quoted else ("found",)))
        return str(self._with(**{name: words(text) for name in names if (text := getattr(self, name)) is not None}))

    def _with(self: Line, **fields: object) -> Line:
        """Return the same error with other fields."""
        other: Line = type(self).__new__(type(self))  # pyrefly: ignore - of an error
        other.__dict__.update(self.__dict__ | fields)
        other.args = (other.format(),)
        return other

    @classmethod
    def unknown_name(
        cls: type[Line],
        argument: str,
        name: object,
        names: Iterable[str],
        *,
        alternatives: str = "",
        file: object | None = None,
        in_order: bool = False,
    ) -> Line:
        """Return the error of a name that is none of those there are; it suggests the nearest.

        Args:
            argument: What is to be named.
            name: The wrong name.
            names: The right ones.
            alternatives: What may be given beside names, as it goes on behind them.
            file: File in which it stands.
            in_order: List names as they come, which says their numbers; by default by the alphabet.
        """
        valid = list(names)
        near = "" if all(map(str.isdecimal, valid)) else best_match(str(name), valid)
        remedy = f"Did you mean {near!r}?" if near else None
        alone = alternatives.removeprefix(", or ") or "nothing of the kind: there are none"
        expected = f"one of {', '.join(valid) if in_order else _listed(valid)}{alternatives}" if valid else alone
        return cls(argument=argument, expected=expected, found=repr(name), remedy=remedy, file=file)

    def format(self, display_name: Callable[[str], str | None] = lambda argument: None, template: str = "{}") -> str:
        """Return the line, for one surface.

        Args:
            display_name: Argument -> its name on the surface; None if there is none of that name, empty if it goes
                without.
            template: Where the name of what is wrong goes, in front.
        """
        shown_argument = None if self.argument is None else display_name(self.argument)
        first, last = (
            (template.format(shown_argument) if shown_argument else "", "")
            if shown_argument is not None
            else ("", self.argument)
        )
        row = None if self.row is None else f"row {self.row}"
        column = None if self.column is None else f"column {self.column!r}"
        where = ", ".join(part for part in (first, self.file, self.place, row, column, last) if part)
        parts = ("expected ", self.expected), ("found ", self.found)
        facts = [self.message, *(f"{word}{value}" for word, value in parts if value is not None)]
        line = ": ".join(part for part in (where, "; ".join(part for part in facts if part is not None)) if part)
        if self.remedy is not None:
            line = f"{line}. {self.remedy}" if line else self.remedy
        line = line if len(line.splitlines()) < 2 else " ".join(line.split())
        line = (
            line
            if len(line) <= MAX_MESSAGE_LENGTH
            else f"{line[: MAX_MESSAGE_LENGTH // 2]} ... {line[-MAX_MESSAGE_LENGTH // 2 :]}"
        )
        return FLAG_PATTERN.sub(lambda match: (match[2] and display_name(match[2].replace("-", "_"))) or match[0], line)


class InputError(_OneLineError):
    """Data, a run folder or the disk is not what it must be; the command line exits with 1."""


class UsageError(_OneLineError):
    """A flag, name or value is wrong; the command line exits with 2."""


def check_number(
    argument: str,
    value: Any,
    *,
    ge: int | float = -math.inf,
    gt: int | float = -math.inf,
    le: int | float = math.inf,
    lt: int | float | None = None,
    remedy: str | None = None,
    kind: type[InputError | UsageError] = UsageError,
) -> None:
    """Refuse a number outside an interval, and NaN; `lt=math.inf` asks for finite numbers. None passes.

    Raises:
        UsageError: If it lies outside; or the kind that is named.
    """
    if value is None or (
        ge <= value <= le and (gt == -math.inf or value > gt) and not (lt is not None and value >= lt)
    ):
        return
    bounds = {"at least": ge, "above": gt, "at most": le, "below": math.inf if lt is None else lt}
    words = [
        f"{word} {_number(end)}" for word, end in bounds.items() if abs(end) < (math.inf if value > BEYOND else BEYOND)
    ]
    words += ["finite"] if lt == math.inf and not isinstance(value, int) else []
    raise kind(argument=argument, expected=" and ".join(words), found=_number(value), remedy=remedy)


def check_kind(argument: str, value: object, kind: type, example: str) -> None:
    """Refuse what is no object of a kind, such as a class, a name or a shape in its place.

    Raises:
        UsageError: If it is another thing.
    """
    if isinstance(value, kind):
        return
    found, remedy = found_instead(value), f"Write {example}"
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    if isinstance(value, type) and issubclass(value, kind):
        remedy = f"Write {value.__name__}()"
    raise UsageError(argument=argument, expected=f"{article} {kind.__name__}", found=found, remedy=remedy)


def found_instead(value: object) -> str:
    """Say what was given in place of an object: a class or a kind of object by its name, short values as they are."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | int | float | tuple):
        return f"{value!r:.60}"
    return f"a {type(value).__name__}"


def _number(value: object) -> str:
    """Write a number."""
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def did_you_mean(name: str, names: list[str]) -> str:
    """Say which of the right names is closest to a wrong one, then all of them: numbers by their size."""
    if all(map(str.isdecimal, names)):
        return f"there are: {_listed(names)}"
    close = best_match(name, names)
    hint = f"did you mean {close!r}? " if close else ""
    return f"{hint}there are: {_listed(names)}"


def best_match(name: str, names: list[str], cutoff: float = 0.5) -> str:
    """Return the name that is written alike, else one that begins so, else the one most like it; empty if none is."""
    same_letters = [each for each in names if each.lower() == name.lower()]
    same_prefix = [each for each in names if len(name) > 2 and each.lower().startswith(name.lower())]
    similar = difflib.get_close_matches(name, names, n=1, cutoff=cutoff) if len(name) > 2 else []
    return next(iter([*same_letters, *sorted(same_prefix, key=len), *similar]), "")


def _listed(names: Sequence[str]) -> str:
    """List names by the alphabet, and numbers by size, those that follow each other by the first and the last."""
    if not all(map(str.isdecimal, names)):
        return ", ".join(sorted(names))
    runs: list[list[int]] = []
    for number in sorted(map(int, names)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    parts = ([f"{a}"] if a == b else [f"{a}", f"{b}"] if b == a + 1 else [f"{a} to {b}"] for a, b in runs)
    return ", ".join(part for each in parts for part in each)


def cannot_write(what: object, error: OSError) -> InputError:
    """Return what to raise where the disk refuses to take something."""
    return InputError(f"cannot write {what} ({error.strerror or error})", remedy="Free the disk or name another place")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory did not suffice, of which PyTorch speaks in an error that is also one of all else."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY_PHRASES)
    )


def is_too_large(error: BaseException) -> bool:
    """Tell whether something was to be made that no memory holds, or whose size no number tells."""
    return is_out_of_memory(error) or isinstance(error, OverflowError) or "overflow" in str(error).lower()


PACKAGE = str(pathlib.Path(__file__).parent.parent)
"""Folder of our own code, in whose name nobody is warned."""


def warn(text: str) -> None:
    """Warn in the name of the caller's own line, the innermost that is not ours."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)
