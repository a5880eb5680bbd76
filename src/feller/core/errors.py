"""One-line errors with fields such as argument, expected and found; each interface formats them in its own way."""

import contextlib
import difflib
import errno
import math
import pathlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any, TypeVar

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""`errno` values of a full disk, an exceeded quota or file size limit."""
BAD_PATH_ERRNOS = (errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP)
"""`errno` values that mean that the path given by the user cannot be used."""
OUT_OF_MEMORY_PHRASES = ("not enough memory", "can't allocate memory", "out of memory")
"""Phrases, in lower case, by which an out-of-memory error of PyTorch is recognised."""
BEYOND = 1e15
"""Absolute value from which a bound is technical: messages omit such a bound, unless the checked number itself is above
`BEYOND`."""
ROUNDING = 1e-6
"""Tolerance of checks of probabilities."""
MAX_MESSAGE_LENGTH = 1_200
"""Maximum length of an error message, in characters; quoted file contents may exceed it."""
FLAG_PATTERN = re.compile(r"(`[^`]*`|\bfeller [a-z]+\b[^;()`]*)|(?<![\w+-])--?([a-z][a-z-]*)(?![\w-]|\.\w)")
"""Pattern of commands in a text (group 1, left unchanged) and of flags outside of commands (group 2)."""

Line = TypeVar("Line", bound="_OneLineError")


class _OneLineError(ValueError):
    """Base class of errors whose one-line message is composed of fields.

    Args:
        facts: A complete message, or the values of `expected`, `found` and optionally `remedy`.
        argument: Name of the argument, field or key, as in Python.
        expected: Expected value.
        found: Value found.
        remedy: How to fix the error, as a sentence.
        file: File or folder.
        row: Row number as counted in the file, or index of the example in a batch.
        column: Name or number of the column.
        place: Location within a file that has no rows and columns.
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
        self.found, self.file, self.place = (None if value is None else str(value) for value in (found, file, place))
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
        """Return the error with unset fields filled in, and `place` prepended to its location."""
        inner_place = self.place
        if file is not None and inner_place is not None and inner_place.startswith(str(file)):
            inner_place = inner_place[len(str(file)) :].lstrip(" :,")
        return self._with(
            argument=argument if self.argument is None else self.argument,
            file=self.file if self.file is not None or file is None else str(file),
            place=", ".join(str(text) for text in (place, inner_place) if text) or None,
            row=row if self.row is None else self.row,
            column=column if self.column is None else self.column,
        )

    def with_path_replaced(self: Line, old: str, new: str) -> Line:
        """Return the error with a path replaced in all text fields."""
        texts = {name: value for name, value in vars(self).items() if isinstance(value, str)}
        return self._with(**{name: value.replace(old, new) for name, value in texts.items()})

    def with_row(self: Line, row: int) -> Line:
        """Return a copy of the error with another row number."""
        return self._with(row=row)

    def advising(self: Line, remedy: str) -> Line:
        """Return a copy of the error with the given remedy instead of its own."""
        return self._with(remedy=remedy)

    def reworded(self, words: Callable[[str], str]) -> str:
        """Return the message after applying `words` to all of its text except a quoted value."""
        quoted = self.found is not None and self.found[:1] in ("'", '"')
        names = ("message", "expected", "remedy", "place", *(() if quoted else ("found",)))
        return str(self._with(**{name: words(text) for name in names if (text := getattr(self, name)) is not None}))

    def _with(self: Line, **fields: object) -> Line:
        copy: Line = type(self).__new__(type(self))  # pyrefly: ignore - of an error
        copy.__dict__.update(self.__dict__ | fields)
        copy.args = (copy.format(),)
        return copy

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
        """Return the error for an unknown name, with the closest valid name as a suggestion.

        Args:
            argument: Argument that takes the name.
            name: Unknown name.
            names: Valid names.
            alternatives: Text on other valid values, appended to the list of names.
            file: File that contains the name.
            in_order: List the names in the given order instead of alphabetically.
        """
        valid = list(names)
        closest = "" if all(map(str.isdecimal, valid)) else best_match(str(name), valid)
        remedy = f"Did you mean {closest!r}?" if closest else None
        fallback = alternatives.removeprefix(", or ") or "no name, because none is defined"
        expected = f"one of {', '.join(valid) if in_order else _listed(valid)}{alternatives}" if valid else fallback
        return cls(argument=argument, expected=expected, found=repr(name), remedy=remedy, file=file)

    def format(self, display_name: Callable[[str], str | None] = lambda argument: None, template: str = "{}") -> str:
        """Return the one-line message for an interface (command line, web page or Python).

        Args:
            display_name: Maps an argument to its name in the interface: None if unknown, empty to omit it.
            template: Format string for the display name, which starts the message.
        """
        argument_name = None if self.argument is None else display_name(self.argument)
        prefix, suffix = (
            (template.format(argument_name) if argument_name else "", "")
            if argument_name is not None
            else ("", self.argument)
        )
        row = None if self.row is None else f"row {self.row}"
        column = None if self.column is None else f"column {self.column!r}"
        location = ", ".join(part for part in (prefix, self.file, self.place, row, column, suffix) if part)
        clauses = ("expected ", self.expected), ("found ", self.found)
        facts = [self.message, *(f"{label}{value}" for label, value in clauses if value is not None)]
        line = ": ".join(part for part in (location, "; ".join(part for part in facts if part is not None)) if part)
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
    """Error in the data, a run folder or the file system; exit code 1 on the command line."""


class UsageError(_OneLineError):
    """Error in a flag, name or value; exit code 2 on the command line."""


@contextlib.contextmanager
def error_context(file: object | None = None, **fields: Any) -> Iterator[None]:
    """Within the context, add the file or other fields to an InputError that is raised."""
    try:
        yield
    except InputError as error:
        raise error.with_context(file=file, **fields) from error


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
    """Check that a value is None or a number within the given bounds.

    Args:
        argument: Name of the checked argument, for the error message.
        value: Value to check; None is always accepted.
        ge: Lower bound, inclusive.
        gt: Lower bound, exclusive.
        le: Upper bound, inclusive.
        lt: Upper bound, exclusive; `math.inf` requires a number below infinity.
        remedy: Last sentence of the error message.
        kind: Class of the error.

    Raises:
        UsageError: If the value is not a number, NaN or out of bounds; `kind` replaces the class of this error.
    """
    try:
        if value is None or (
            ge <= value <= le and (gt == -math.inf or value > gt) and not (lt is not None and value >= lt)
        ):
            return
    except TypeError as error:
        raise kind(argument=argument, expected="a number", found=found_instead(value), remedy=remedy) from error
    bounds = {"at least": ge, "above": gt, "at most": le, "below": math.inf if lt is None else lt}
    conditions = [
        f"{relation} {_number(bound)}"
        for relation, bound in bounds.items()
        if abs(bound) < (math.inf if value > BEYOND else BEYOND)
    ]
    conditions += ["finite"] if lt == math.inf and not isinstance(value, int) else []
    expected = "a finite number" if conditions == ["finite"] else " and ".join(conditions)
    raise kind(argument=argument, expected=expected, found=_number(value), remedy=remedy)


def check_finite_number(argument: str, value: Any) -> None:
    """Check that a value is a finite number.

    Raises:
        UsageError: If the value is not a number, NaN or infinite.
    """
    check_number(argument, value, ge=-sys.float_info.max, lt=math.inf)


def check_integer(argument: str, value: object, *, ge: int, le: int | float = math.inf) -> None:
    """Check that a value is an integer within the given bounds; a bool is not an integer.

    Raises:
        UsageError: If the value is not an integer, or out of bounds.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise UsageError(argument=argument, expected=f"an integer of at least {ge}", found=found_instead(value))
    check_number(argument, value, ge=ge, le=le)


def check_probabilities(
    argument: str, values: Sequence[float], *, kind: type[InputError | UsageError] = UsageError
) -> None:
    """Check that values are probabilities, up to rounding errors.

    Raises:
        UsageError: If a value is NaN or outside of [0, 1]; `kind` replaces the class of this error.
    """
    for i, value in enumerate(values):
        if not -ROUNDING <= value <= 1 + ROUNDING:
            raise kind("a probability between 0 and 1", f"{value:g}", argument=f"{argument}[{i}]")


def check_kind(argument: str, value: object, kind: type, example: str) -> None:
    """Check that a value is an instance of a class; the error message shows `example` as a valid value.

    Raises:
        UsageError: If the value is not an instance of `kind`.
    """
    if isinstance(value, kind):
        return
    found, remedy = found_instead(value), f"Write {example}"
    if isinstance(value, type) and issubclass(value, kind):
        remedy = f"Write {value.__name__}()"
    raise UsageError(argument=argument, expected=_with_article(kind), found=found, remedy=remedy)


def found_instead(value: object) -> str:
    """Describe an unexpected value: the repr of a short value, else its class."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | int | float | tuple):
        return f"{value!r:.60}"
    return _with_article(type(value))


def _with_article(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def did_you_mean(name: str, names: list[str]) -> str:
    """Return a hint for the unknown name `name`: the most similar of the valid names `names`, and a list of all."""
    if all(map(str.isdecimal, names)):
        return f"available: {_listed(names)}"
    close = best_match(name, names)
    hint = f"did you mean {close!r}? " if close else ""
    return f"{hint}available: {_listed(names)}"


def best_match(name: str, names: list[str], cutoff: float = 0.5) -> str:
    """Return the entry of `names` that best matches `name`; '' if none is similar.

    A name that differs only in case comes first, then a name that starts with `name`, then the most similar name.

    Args:
        name: Name to look up.
        names: Names to choose from.
        cutoff: Minimum similarity of the most similar name, from 0 to 1, as in `difflib`.
    """
    same_letters = [candidate for candidate in names if candidate.lower() == name.lower()]
    same_prefix = [candidate for candidate in names if len(name) > 2 and candidate.lower().startswith(name.lower())]
    similar = difflib.get_close_matches(name, names, n=1, cutoff=cutoff) if len(name) > 2 else []
    return next(iter([*same_letters, *sorted(same_prefix, key=len), *similar]), "")


def _listed(names: Sequence[str]) -> str:
    """List names alphabetically, or numbers in order with consecutive ones as ranges."""
    if not all(map(str.isdecimal, names)):
        return ", ".join(sorted(names))
    runs: list[list[int]] = []
    for number in sorted(map(int, names)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    run_labels = ([f"{a}"] if a == b else [f"{a}", f"{b}"] if b == a + 1 else [f"{a} to {b}"] for a, b in runs)
    return ", ".join(label for labels in run_labels for label in labels)


def cannot_write(what: object, error: OSError) -> InputError:
    """Return the error to raise for a failed write of `what`, a path or a description, given the system error."""
    return InputError(
        f"cannot write {what} ({error.strerror or error})", remedy="Free disk space or choose another path"
    )


def message_of(error: BaseException, longest: int | None = None) -> str:
    """Return the message of an error of another package in one line, or its class if it has none."""
    return " ".join(str(error).split())[:longest] or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for out-of-memory errors, including PyTorch's, which are a plain RuntimeError on CPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in text for phrase in OUT_OF_MEMORY_PHRASES)
    )


def is_too_large(error: BaseException) -> bool:
    """Return True for an error caused by a size that exceeds the memory or overflows an integer."""
    return is_out_of_memory(error) or isinstance(error, OverflowError) or "overflow" in str(error).lower()


PACKAGE = str(pathlib.Path(__file__).parent.parent)
"""Folder of this package; a warning is attributed to the first caller outside this folder."""


class FellerWarning(UserWarning):
    """Warning issued by feller."""


def warn(text: str) -> None:
    """Issue a FellerWarning attributed to the innermost caller outside this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, FellerWarning, stacklevel=level)
