"""Columns of dates and times."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError
from feller.data.tables.bins import Bins, check_binned, equal_starts
from feller.data.tables.column import WITHOUT_NAME, Modelled, check_words
from feller.data.tables.constraints import compared

BINS = 20
"""Bins of equal width, where nothing else is said."""
ZERO = datetime.datetime(1, 1, 1)
SECONDS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_FINEST = (("%f", "microsecond"), ("%S", "second"), ("%M", "minute"), ("%H", "hour"), ("%I", "hour"), ("%d", "day"))
PARTS = (" 00:00:00", ".000000")
"""What a day lacks to be a second, and a second to be a microsecond."""
_DAY = r"\d{4}-\d{2}-\d{2}"
EACH = tuple(re.compile(_DAY + more) for more in ("", r" \d{2}:\d{2}:\d{2}", r" \d{2}:\d{2}:\d{2}\.\d{6}"))
"""How days, seconds and microseconds are written."""
_KNOWN = re.compile(r"%-?[YymdHIMSfpbBaA%]")


@dataclass(frozen=True)
class Datetime(Modelled):
    """Times from first to last, in bins, uniform within each in steps of the finest part of the format."""

    name: str  # pyrefly: ignore
    first: str
    last: str
    format: str = "%Y-%m-%d"
    """As in Python's strptime; %-d and the like are written without zeros before them."""
    edges: tuple[str, ...] = ()
    """Where bins meet, in the format."""
    bins: int | None = None
    """Number of bins of equal width, instead of edges."""
    missing: str | None = None  # pyrefly: ignore
    also_missing: tuple[str, ...] = ()  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, self.words_for_missing, "the word")
        odd = re.sub(_KNOWN, "", self.format)
        if "%" in odd or not re.search("%-?[Yy]", self.format):
            raise InputError(
                f"column {self.name!r}: expected a format with %Y or %y, of %Y %y %m %d %H %I %M %S %f %p %b %B %a %A,"
                f" got {self.format!r}"
            )
        check_binned(self)

    @cached_property
    def _unit(self) -> str:
        """Finest part of the format."""
        plain = self.format.replace("%-", "%")
        for sign, unit in _FINEST:
            if sign in plain:
                return unit
        return "month" if re.search("%[mbB]", plain) else "year"

    @cached_property
    def levels(self) -> Bins:
        """The bins, in units of the finest part of the format."""
        first, last = self._said(self.first, "first"), self._said(self.last, "last")
        edges = tuple(self._said(edge, "the edge") for edge in self.edges)
        if first > last:
            raise InputError(f"expected the first time before the last, got {self.first} and {self.last}")
        return Bins((first, *edges) if edges else equal_starts(first, last, self.bins or BINS), last)

    def _said(self, text: str, what: str) -> int:
        units = self._read(text)
        if units is None:
            raise InputError(f"column {self.name!r}: {what} {text!r} is no time in the format {self.format!r}")
        return units

    def _read(self, cell: str) -> int | None:
        """Return a time in units since the year 1; None where a cell holds none."""
        when = time_in(cell, self.format)
        return None if when is None else self._units(when)

    def _units(self, when: datetime.datetime) -> int:
        if self._unit in ("year", "month"):
            return when.year if self._unit == "year" else 12 * when.year + when.month - 1
        since = when - ZERO
        if self._unit == "microsecond":
            return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        return (since.days * 86_400 + since.seconds) // SECONDS[self._unit]

    def _write(self, units: int) -> str:
        if self._unit == "year":
            when = datetime.datetime(units, 1, 1)
        elif self._unit == "month":
            when = datetime.datetime(units // 12, units % 12 + 1, 1)
        elif self._unit == "microsecond":
            when = ZERO + datetime.timedelta(microseconds=units)
        else:
            when = ZERO + datetime.timedelta(seconds=units * SECONDS[self._unit])
        return write_time(when, self.format)

    @property
    def own_count(self) -> int:
        """Number of bins."""
        return self.levels.count

    @property
    def own_names(self) -> tuple[str, ...]:
        """First and last time of each bin."""
        spans = map(self.levels.span, range(self.levels.count))
        return tuple(self._write(a) if a == b else f"{self._write(a)} to {self._write(b)}" for a, b in spans)

    @property
    def told(self) -> str:
        """The bounds."""
        missing = "" if self.missing is None else f", or {self.missing or WITHOUT_NAME}"
        return f"expected a time from {self.first} to {self.last}{missing}"

    def told_of(self, cell: str) -> str:
        """Say what it can be; of a day that no calendar has, that."""
        return f"there is no such day; {self.told}" if is_no_day(cell, self.format) else self.told

    def own_code(self, cell: str) -> int | None:
        """Return the bin of a time within the bounds."""
        units = self._read(cell)
        return None if units is None else self.levels.code(units)

    def nearest_code(self, cell: str) -> int | None:
        """Return the first or the last bin for a time beyond the bounds."""
        units = self._read(cell)
        return None if units is None else 0 if units < self.levels.starts[0] else self.levels.count - 1

    def own_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> list[str]:
        """Write a time of each bin, all equally likely."""
        return [self._write(units) for units in self.levels.draw(codes, uniforms).tolist()]

    def matching(self, text: str) -> Bool[np.ndarray, " count"]:
        """Return which codes a time or a comparison, such as >= 2020-01-01, means; bins are on one side of it."""
        asked = compared(text)
        if asked is None:
            return self.levels.check_alone(super().matching(text), self.name, text)
        spans = [self.levels.span(code) for code in range(self.own_count)]
        return asked.over(spans, self._said(asked.bound, "the bound"), self.name, self.count)


def in_format(cell: str, form: str) -> datetime.datetime:
    """Read a time; %-d is read as %d.

    Raises:
        ValueError: If it is not written so.
    """
    return datetime.datetime.strptime(cell, form.replace("%-", "%"))


def time_in(cell: str, form: str) -> datetime.datetime | None:
    """Return the time in a cell, in a format or as ISO 8601 writes it; None where there is none."""
    try:
        when = in_format(cell, form)
    except ValueError:
        try:
            when = datetime.datetime.fromisoformat(cell)
        except ValueError:
            return None
    return when.replace(tzinfo=None)


def is_no_day(cell: str, form: str) -> bool:
    """Tell whether a cell is written as a time in a format, and names a day that does not exist, as 30 February."""
    if time_in(cell, form) is not None:
        return False
    try:
        in_format(cell, form)
    except ValueError as error:  # what is written otherwise fails to match, or leaves something over
        return not any(words in str(error) for words in ("does not match", "unconverted data"))
    return False


def shortest_time(cell: str) -> str:
    """Return a time that is written to the microsecond without zeros at its end that say nothing."""
    return cell.removesuffix(".000000").removesuffix(" 00:00:00")


def alike(cells: Sequence[str]) -> list[str]:
    """Return times, each of which was written as short as may be, as finely as the finest; other cells as they are."""
    kinds = {cell: next((i for i, form in enumerate(EACH) if form.fullmatch(cell)), None) for cell in {*cells} - {""}}
    finest = max((kind for kind in kinds.values() if kind is not None), default=0)
    if None in kinds.values() or not finest:
        return list(cells)
    return [cell + "".join(PARTS[kinds[cell] or 0 : finest]) if cell else cell for cell in cells]


def write_time(when: datetime.datetime, form: str) -> str:
    """Write a time; a part with a minus, as %-d, has no zeros before it."""

    def part(found: re.Match[str]) -> str:
        if found[1] == "%":
            return "%"
        written = f"{when.year:04d}" if found[1] == "Y" else when.strftime(f"%{found[1]}")
        return written.lstrip("0") or "0" if found[0].startswith("%-") else written

    return re.sub("%-?([a-zA-Z%])", part, form)
