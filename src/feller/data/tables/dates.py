"""Columns of dates and times, and parsing and formatting of their cells."""

import datetime
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow
import pyarrow.compute
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError
from feller.data.loading.raw import TEXT, FactorizedColumn, text_array
from feller.data.tables.bins import Bins, check_binned, equal_starts
from feller.data.tables.column import WITHOUT_NAME, ModelledColumn, check_words
from feller.data.tables.constraints import parse_inequality

_ARROW: Any = pyarrow.compute  # its functions are created at import
BINS = 20
"""Default number of equal-width bins of a column of times."""
ZERO = datetime.datetime(1, 1, 1)
_ZERO = int(np.datetime64(ZERO, "us").astype(np.int64))
SECONDS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_FINEST = (("%f", "microsecond"), ("%S", "second"), ("%M", "minute"), ("%H", "hour"), ("%I", "hour"), ("%d", "day"))
PARTS = (" 00:00:00", ".000000")
"""Suffixes that extend a day to the precision of seconds, and a second to the precision of microseconds."""
_DAY = r"\d{4}-\d{2}-\d{2}"
EACH = tuple(_DAY + more for more in ("", r" \d{2}:\d{2}:\d{2}", r" \d{2}:\d{2}:\d{2}\.\d{6}"))
"""Patterns of times with a precision of days, seconds and microseconds."""
PERIODS = (
    (_DAY, datetime.timedelta(days=1)),
    (_DAY + r"[ T]\d{2}", datetime.timedelta(hours=1)),
    (_DAY + r"[ T]\d{2}:\d{2}", datetime.timedelta(minutes=1)),
    (_DAY + r"[ T]\d{2}:\d{2}:\d{2}", datetime.timedelta(seconds=1)),
)
"""Patterns of times without their finest parts, and the length of the period that each names."""
_KNOWN = re.compile(r"%-?[YymdHIMSfpbBaA%]")


@dataclass(frozen=True)
class Datetime(ModelledColumn):
    """Column of times from `first` to `last`, in bins.

    The code of a bin is decoded to a uniformly random time in the bin, in the finest unit of the format.
    """

    is_ordered: ClassVar[bool] = True
    name: str  # pyrefly: ignore
    first: str
    last: str
    format: str = "%Y-%m-%d"
    """Time format as for Python's strptime; a part with a minus, such as %-d, is written without leading zeros."""
    edges: tuple[str, ...] = ()
    """Edges of the bins, as times in the format."""
    bins: int | None = None
    """Number of equal-width bins, as an alternative to `edges`."""
    missing: str | None = None  # pyrefly: ignore
    also_missing: tuple[str, ...] = ()  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore

    def __post_init__(self) -> None:
        check_words(self.name, self.words_for_missing, "the word")
        leftover = re.sub(_KNOWN, "", self.format)
        if "%" in leftover or not re.search("%-?[Yy]", self.format):
            raise InputError(
                "a format with %Y or %y, and only the codes %Y %y %m %d %H %I %M %S %f %p %b %B %a %A",
                repr(self.format),
                column=self.name,
            )
        check_binned(self)

    @cached_property
    def unit(self) -> str:
        """Finest time unit in the format, such as days."""
        time_format = self.format.replace("%-", "%")
        for directive, unit in _FINEST:
            if directive in time_format:
                return unit
        return "month" if re.search("%[mbB]", time_format) else "year"

    @cached_property
    def levels(self) -> Bins:
        """Bins of times, in the finest unit of the format."""
        first, last = self._parse_bound(self.first, "first"), self._parse_bound(self.last, "last")
        edges = tuple(self._parse_bound(edge, "the edge") for edge in self.edges)
        if first > last:
            raise InputError("a first time before the last time", f"{self.first} and {self.last}")
        return Bins((first, *edges) if edges else equal_starts(first, last, self.bins or BINS), last)

    def _parse_bound(self, text: str, label: str) -> int:
        _, units = self.read(text_array([text]))
        if not len(units):
            raise InputError(f"{label} {text!r} is not a time in the format {self.format!r}", column=self.name)
        return int(units[0])

    def read(self, words: pyarrow.Array) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " m"]]:
        """Return the mask of cells that are times, and the times in units since the year 1."""
        times = read_times(words, self.format)
        is_time = ~np.isnat(times)
        return is_time, self.units_of(times[is_time])

    def to_units(self, words: pyarrow.Array) -> tuple[Bool[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return the mask of cells that are times, and times in finest units of the format; 0 for other cells."""
        is_time, times = self.read(words)
        units = np.zeros(len(words), dtype=np.int64)
        units[is_time] = times
        return is_time, units

    def from_units(self, units: Int64[np.ndarray, " n"]) -> pyarrow.Array:
        """Return times in finest units of the format as cells."""
        return write_times(self.instants(units), self.format)

    def units(self, cell: str) -> int | None:
        """Return a time in finest units of the format since the year 1; None if the cell is not a time."""
        _, units = self.read(text_array([cell]))
        return int(units[0]) if len(units) else None

    def period(self, cell: str) -> tuple[int, int] | None:
        """Return the first and the last unit of the time that a cell names; None if the cell is not a time.

        They differ if the cell is a day or a minute, and the column has a finer unit.
        """
        first = self.units(cell)
        if first is None or not np.isnat(read_times(text_array([cell]), self.format, exactly=True)[0]):
            return None if first is None else (first, first)
        length = next((step for pattern, step in PERIODS if re.fullmatch(pattern, cell)), datetime.timedelta())
        end = np.datetime64(datetime.datetime.fromisoformat(cell).replace(tzinfo=None), "us") + np.timedelta64(length)
        return first, max(first, int(self.units_of(np.array([end - np.timedelta64(1, "us")]))[0]))

    def units_of(self, times: np.ndarray) -> Int64[np.ndarray, " n"]:
        """Return NumPy datetimes in units since the year 1, rounded down."""
        if self.unit in ("year", "month"):
            months = times.astype("M8[M]").astype(np.int64) + 12 * 1970
            return months // 12 if self.unit == "year" else months
        microseconds = times.astype("M8[us]").astype(np.int64) - _ZERO
        return microseconds if self.unit == "microsecond" else microseconds // (SECONDS[self.unit] * 1_000_000)

    def instants(self, units: Int64[np.ndarray, " n"]) -> np.ndarray:
        """Return the starts of units as NumPy datetimes, in microseconds."""
        if self.unit in ("year", "month"):
            months = 12 * units if self.unit == "year" else units
            return (months - 12 * 1970).astype("M8[M]").astype("M8[us]")
        step = 1 if self.unit == "microsecond" else SECONDS[self.unit] * 1_000_000
        return (units * step + _ZERO).astype("M8[us]")

    @property
    def num_values(self) -> int:
        return self.levels.count

    @property
    def value_names(self) -> tuple[str, ...]:
        spans = np.array([self.levels.span(code) for code in range(self.levels.count)])
        firsts, lasts = (write_times(self.instants(units), self.format).to_pylist() for units in spans.T)
        return tuple(a if a == b else f"{a} to {b}" for a, b in zip(firsts, lasts, strict=True))

    @property
    def allowed_text(self) -> str:
        missing = "" if self.missing is None else f", or {self.missing or WITHOUT_NAME}"
        return f"a time from {self.first} to {self.last}{missing}"

    def allowed_hint(self, cell: str) -> str:
        return f"an existing day: {self.allowed_text}" if is_no_day(cell, self.format) else self.allowed_text

    def value_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the bin index of each time within the bounds; -1 for all other cells."""
        is_time, units = self.read(words)
        codes = np.full(len(words), -1, dtype=np.int64)
        codes[is_time] = self.levels.codes(units)
        return codes

    def nearest_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the index of the first or last bin for times out of bounds; -1 for cells that are not times."""
        is_time, units = self.read(words)
        codes = np.full(len(words), -1, dtype=np.int64)
        codes[is_time] = np.where(units < self.levels.starts[0], 0, self.levels.count - 1)
        return codes

    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        return self.texts(self.levels.draw(codes, uniforms))

    def texts(self, units: Int64[np.ndarray, " n"]) -> pyarrow.Array:
        """Format times given in finest units of the format since the year 1."""
        return write_times(self.instants(units), self.format)

    def matching(self, text: str) -> Bool[np.ndarray, " count"]:
        """Return True for the codes of a time, or a comparison such as >= 2020-01-01; InputError if it splits a bin."""
        inequality = parse_inequality(text)
        if inequality is None:
            return self.levels.check_alone(super().matching(text), self.name, text)
        spans = [self.levels.span(code) for code in range(self.num_values)]
        return inequality.mask(spans, self._parse_bound(inequality.bound, "the bound"), self.name, self.num_codes)


def in_format(cell: str, form: str) -> datetime.datetime:
    """Parse a cell as a time, treating `%-d` as `%d`; ValueError if the cell does not match the format."""
    return datetime.datetime.strptime(cell, form.replace("%-", "%"))


def time_in(cell: str, form: str, *, exactly: bool = False) -> datetime.datetime | None:
    """Parse a time in the format `form` or, unless `exactly` is set, in ISO 8601; None if the cell is not a time."""
    try:
        time = in_format(cell, form)
    except ValueError:
        if exactly:
            return None
        try:
            time = datetime.datetime.fromisoformat(cell)
        except ValueError:
            return None
    return time.replace(tzinfo=None)


_READ = {"Y": (4, "year"), "m": (2, "month"), "d": (2, "day"), "H": (2, "hour"), "M": (2, "minute"), "S": (2, "second")}
"""Parts of time formats that are parsed in bulk, with their number of digits and their name."""


def read_times(words: pyarrow.Array, form: str, *, exactly: bool = False) -> np.ndarray:
    """Parse cells in bulk as `time_in` does, to NumPy datetimes in microseconds; NaT for cells that are not times."""
    times = np.full(len(words), "NaT", dtype="M8[us]")
    is_parsed = np.zeros(len(words), dtype=bool)
    directives = re.findall("%(-?.)", form)
    if len({*directives}) == len(directives) and {*directives} <= {*_READ, "f"} and {"Y", "m", "d"} <= {*directives}:
        pattern = re.sub(
            r"\\?%(.)",
            lambda match: (
                rf"(?P<{match[1]}>\d{{6}})" if match[1] == "f" else rf"(?P<{match[1]}>\d{{{_READ[match[1]][0]}}})"
            ),
            re.escape(form),
        )
        matches = _ARROW.extract_regex(words, f"^{pattern}$")
        is_match = np.asarray(matches.is_valid())
        matched = matches.filter(pyarrow.array(is_match))
        fields = {name: np.asarray(_ARROW.struct_field(matched, name).cast(pyarrow.int64())) for name in directives}
        zeros = np.zeros(len(matched), dtype=np.int64)
        hour, minute, second = (fields.get(name, zeros) for name in "HMS")
        year, month, day = (fields[name] for name in "Ymd")
        is_valid = (hour < 24) & (minute < 60) & (second < 60) & (year > 0) & (month > 0) & (month < 13) & (day > 0)
        months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
        is_valid &= day <= ((months + 1).astype("M8[D]") - months.astype("M8[D]")).astype(np.int64)
        seconds = ((day - 1) * 24 + hour) * 3600 + minute * 60 + second
        instants = months.astype("M8[us]") + (seconds * 1_000_000 + fields.get("f", zeros)).astype("m8[us]")
        is_parsed[np.flatnonzero(is_match)[is_valid]] = True
        times[is_parsed] = instants[is_valid]
    for i in np.flatnonzero(~is_parsed):
        time = time_in(words[i].as_py(), form, exactly=exactly)
        times[i] = np.datetime64("NaT") if time is None else np.datetime64(time, "us")
    return times


def write_times(times: np.ndarray, form: str) -> pyarrow.Array:
    """Format NumPy datetimes in microseconds in bulk, with the same result as `write_time`."""
    segment_texts: list[Any] = []
    for segment in re.split("(%-?[a-zA-Z%])", form):
        if not segment.startswith("%") or segment == "%%":
            segment_texts.append(pyarrow.scalar(segment.replace("%%", "%"), TEXT))
            continue
        unit = _BY.get(segment[-1], "us")
        units = times.astype(f"M8[{unit}]").astype(np.int64)
        keys = units % _CYCLE[unit] if unit in _CYCLE and segment[-1] not in "aA" else units
        _, first_index, inverse = np.unique(keys, return_index=True, return_inverse=True)
        texts = [write_time(time, segment) for time in times[first_index].tolist()]
        segment_texts.append(text_array(texts).take(pyarrow.array(inverse)))
    return _ARROW.binary_join_element_wise(*segment_texts, pyarrow.scalar("", TEXT))


_BY = {"Y": "Y", "y": "Y", "m": "M", "b": "M", "B": "M", "d": "D", "a": "D", "A": "D", "H": "h", "I": "h", "p": "h"}
_BY |= {"M": "m", "S": "s"}
"""Time unit that determines each format part."""
_CYCLE = {"M": 12, "h": 24, "m": 60, "s": 60}
"""Number of time units after which a part of a time format has the same text again, by NumPy unit."""


def is_no_day(cell: str, form: str) -> bool:
    """Return True if a cell has the time format `form`, but its day does not exist, such as 30 February."""
    if time_in(cell, form) is not None:
        return False
    try:
        in_format(cell, form)
    except ValueError as error:  # other formats fail to match, or leave a remainder
        return not any(phrase in str(error) for phrase in ("does not match", "unconverted data"))
    return False


def equalize_precision(column: FactorizedColumn) -> FactorizedColumn:
    """Rewrite a column of times of different precision in the finest precision; return any other column unchanged."""
    # Quick check, since most columns have no times; one of two cells may be empty.
    first_words = column.uniques.slice(0, 2)
    if not any(re.fullmatch(form, word) for form in EACH for word in first_words.to_pylist()):
        return column
    is_nonempty = _ARROW.not_equal(column.uniques, "")
    format_masks = [_ARROW.match_substring_regex(column.uniques, f"^{form}$") for form in EACH]
    is_time = _ARROW.or_(_ARROW.or_(format_masks[0], format_masks[1]), format_masks[2])
    finest = max((i for i, mask in enumerate(format_masks) if _ARROW.any(mask).as_py()), default=0)
    if not finest or not _ARROW.all(_ARROW.or_(is_time, _ARROW.invert(is_nonempty))).as_py():
        return column
    words = column.uniques
    for i, suffix in enumerate(PARTS[:finest]):
        shorter = _ARROW.or_(format_masks[0], format_masks[1]) if i else format_masks[0]
        longer = _ARROW.binary_join_element_wise(words, pyarrow.scalar(suffix, TEXT), pyarrow.scalar("", TEXT))
        words = _ARROW.if_else(shorter, longer, words)
    encoded = words.dictionary_encode()
    return FactorizedColumn(encoded.dictionary, np.asarray(encoded.indices)[column.codes])


def write_time(when: datetime.datetime, form: str) -> str:
    """Format a time in the format `form`; parts with a minus, such as %-d, are written without leading zeros."""

    def format_directive(match: re.Match[str]) -> str:
        if match[1] == "%":
            return "%"
        text = f"{when.year:04d}" if match[1] == "Y" else when.strftime(f"%{match[1]}")
        return text.lstrip("0") or "0" if match[0].startswith("%-") else text

    return re.sub("%-?([a-zA-Z%])", format_directive, form)
