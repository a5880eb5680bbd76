"""Number and date formats of table cells, and their detection."""

import calendar
import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from jaxtyping import Bool, Int64

from feller.core.errors import InputError, check_number
from feller.data.loading.raw import TEXT, text_array
from feller.data.tables.dates import in_format, read_times, write_time, write_times

_ARROW: Any = pyarrow.compute  # its functions are created at import
_DIGITS = 18
"""Number of decimal digits that always fit into an int64."""
MAX_NUMBER = 10**18
"""Upper limit of numbers in a column, exclusive."""
_MOST = 2**62
MOST_DECIMALS = 12
MAX_POWER = 30
"""Largest accepted exponent e: numbers above 10^e are rejected, numbers below 10^-e are 0."""


@dataclass(frozen=True)
class NumberFormat:
    """Number format: integer multiples of 10^-decimals, with separators, signs, prefix and suffix."""

    decimals: int = 0
    """Maximum digits after the decimal point."""
    fewest: int | None = None
    """Minimum digits after the decimal point if trailing zeros are dropped; None to keep trailing zeros."""
    point: str = "."
    thousands: str = ""
    """Thousands separator."""
    width: int = 0
    """Minimum digits before the decimal point; shorter numbers are zero-padded."""
    plus: bool = False
    """True if positive numbers are written with a plus sign."""
    before: str = ""
    """Prefix of each number, such as a currency symbol."""
    after: str = ""
    """Suffix of each number, such as %."""
    whole: bool = False
    """True if whole numbers are written without decimals, such as 0 among 12.50."""

    def __post_init__(self) -> None:
        if not 0 <= self.decimals <= MOST_DECIMALS:
            raise InputError(f"0 to {MOST_DECIMALS} decimals", self.decimals)
        if self.fewest is not None and not 0 <= self.fewest <= self.decimals:
            raise InputError(f"a minimum number of decimals from 0 to {self.decimals}", self.fewest)
        if (
            self.point not in (".", ",")
            or self.thousands not in ("", ",", ".", "'", " ")
            or self.point == self.thousands
        ):
            raise InputError(
                "a decimal point of . or , and a different thousands separator (, . ' or a space)",
                f"{self.point!r} and {self.thousands!r}",
            )
        check_number("width", self.width, ge=0, le=18, kind=InputError)
        if re.search(r"[\d.,+-]", self.before + self.after) or (self.before + self.after).strip("\r\n\0") != (
            self.before + self.after
        ):
            raise InputError(
                "prefix and suffix of a number must not contain digits or signs",
                found=f"{self.before!r}, {self.after!r}",
            )

    def read(self, cell: str) -> Decimal | None:
        """Parse the number in a cell; None if the cell is not a number in this format."""
        sign = cell[:1] if cell[:1] in ("+", "-") else ""
        body = cell[len(sign) :].removeprefix(self.before).lstrip()
        body = body.removesuffix(self.after.strip()).rstrip() if self.after.strip() else body
        if not sign and body[:1] in ("+", "-"):
            sign, body = body[0], body[1:]
        if self.thousands and self.thousands in body:
            groups = rf"\d{{1,3}}({re.escape(self.thousands)}\d{{3}})+({re.escape(self.point)}\d*)?"
            if re.fullmatch(groups, body) is None:
                return None
            body = body.replace(self.thousands, "")
        if self.point == "," and "," in body:
            if "." in body:
                return None
            body = body.replace(",", ".")
        if re.fullmatch(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", body, re.ASCII) is None:
            return None
        number = Decimal(sign + body)
        return (
            number
            if not number or abs(number.adjusted()) <= MAX_POWER
            else Decimal(0)
            if number.adjusted() < 0
            else None
        )

    def parse(self, cells: pyarrow.Array) -> "ParsedNumbers":
        """Parse the numbers in an array of cells; the vectorized form of `read` and `grid`."""
        matches = _ARROW.extract_regex(cells, self._pattern)
        groups = {name: _ARROW.struct_field(matches, name) for name in ("sign", "inner", "whole", "frac")}
        whole = _ARROW.replace_substring(groups["whole"], self.thousands, "") if self.thousands else groups["whole"]
        frac = groups["frac"]
        num_digits = _ARROW.add(_ARROW.binary_length(whole), self.decimals)
        has_two_signs = _ARROW.and_(_ARROW.not_equal(groups["sign"], ""), _ARROW.not_equal(groups["inner"], ""))
        is_match = np.asarray(
            _ARROW.and_(_ARROW.less_equal(num_digits, _DIGITS), _ARROW.invert(has_two_signs)).fill_null(False)
        )
        size = len(cells)
        units, behind, before = (np.zeros(size, dtype=np.int64) for _ in range(3))
        exact = np.ones(size, dtype=bool)
        arrow_mask = pyarrow.array(is_match)
        whole, frac = whole.filter(arrow_mask), frac.filter(arrow_mask)
        padded = _ARROW.ascii_rpad(_ARROW.utf8_slice_codeunits(frac, 0, self.decimals), self.decimals, "0")
        digits = _ARROW.binary_join_element_wise(whole, padded, pyarrow.scalar("", cells.type))
        integers = np.asarray(digits.cast(pyarrow.int64()))
        has_remainder = np.asarray(
            _ARROW.match_substring_regex(_ARROW.utf8_slice_codeunits(frac, self.decimals), "[1-9]")
        )
        signs = (groups[name].filter(arrow_mask) for name in ("sign", "inner"))
        is_negative = np.logical_or(*(np.asarray(_ARROW.equal(sign, "-")) for sign in signs))
        units[is_match] = np.where(is_negative, -integers - has_remainder, integers)
        exact[is_match] = ~has_remainder
        behind[is_match] = np.asarray(_ARROW.binary_length(frac))
        before[is_match] = np.asarray(_ARROW.binary_length(_ARROW.ascii_ltrim(whole, "0")))
        valid = is_match.copy()
        for i in np.flatnonzero(~is_match):
            number = self.read(cells[i].as_py())
            if number is not None:
                scaled = number.scaleb(self.decimals)
                valid[i], exact[i] = True, scaled == scaled.to_integral_value()
                units[i] = min(max(self.grid(number), -_MOST), _MOST)
                behind[i] = max(0, -int(number.as_tuple().exponent))  # pyrefly: ignore
                before[i] = max(0, number.adjusted() + 1)
        return ParsedNumbers(valid, units, exact, behind, before)

    @cached_property
    def _pattern(self) -> str:
        """Regular expression of numbers in this format; cells that do not match it are parsed one by one."""
        groups = rf"|\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+" if self.thousands else ""
        escaped = re.escape(self.after.strip())
        prefix, suffix = rf"(?:{re.escape(self.before)})? *", rf" *(?:{escaped})?" if escaped else ""
        point = re.escape(self.point)
        return rf"^(?P<sign>[+-]?){prefix}(?P<inner>[+-]?)(?P<whole>\d+{groups})(?:{point}(?P<frac>\d*))?{suffix}$"

    def grid(self, number: Decimal) -> int:
        """Return a number as an integer in units of the last decimal place, rounded down."""
        return int(number.scaleb(self.decimals).to_integral_value(ROUND_FLOOR))

    def exact(self, number: float, name: str, what: str) -> int:
        """Convert a number in a schema to an integer in units of the last decimal place.

        Args:
            number: Number in the schema.
            name: Name of the column, for error messages.
            what: Name of the number, for error messages.

        Raises:
            InputError: If the number has more decimals than the format, or is too large.
        """
        if not abs(number) < MAX_NUMBER:
            raise InputError(f"{what} of absolute value below {MAX_NUMBER:g}", f"{number:g}", column=name)
        scaled = Decimal(repr(number)).scaleb(self.decimals)
        if scaled != scaled.to_integral_value():
            raise InputError(
                f"{what} {number!r} has more than the {self.decimals} decimals of the column",
                remedy='Round the number, or increase "decimals" in "form"',
                column=name,
            )
        return int(scaled)

    def write(self, units: int) -> str:
        """Format a number, given as an integer in units of the last decimal place."""
        integer, remainder = divmod(abs(units), 10**self.decimals)
        digits = f"{integer:0{self.width}d}" if self.width else f"{integer:,}".replace(",", self.thousands)
        decimals = f"{remainder:0{self.decimals}d}" if self.decimals else ""
        if self.fewest is not None:
            trimmed = decimals.rstrip("0")
            decimals = trimmed if len(trimmed) >= self.fewest else decimals[: self.fewest]
        decimals = "" if self.whole and not remainder else decimals
        sign = "-" if units < 0 else "+" if self.plus and units > 0 else ""
        return f"{sign}{self.before}{digits}{self.point if decimals else ''}{decimals}{self.after}"

    def texts(self, units: Int64[np.ndarray, " n"]) -> pyarrow.Array:
        """Format numbers given as integers in units of the last decimal place; the vectorized form of `write`."""
        if self.thousands:
            unique_units, inverse = np.unique(units, return_inverse=True)
            return text_array([self.write(number) for number in unique_units.tolist()]).take(pyarrow.array(inverse))

        def scalar(sign: str) -> pyarrow.Scalar:
            return pyarrow.scalar(sign, TEXT)

        integer, remainder = np.divmod(np.abs(units), 10**self.decimals)
        digits = _ARROW.ascii_lpad(pyarrow.array(integer).cast(TEXT), self.width, "0")
        decimals = text_array([""]).take(pyarrow.array(np.zeros(len(units), dtype=np.int64)))
        if self.decimals:
            decimals = _ARROW.ascii_lpad(pyarrow.array(remainder).cast(TEXT), self.decimals, "0")
        if self.fewest is not None:
            shortest = _ARROW.utf8_slice_codeunits(decimals, 0, self.fewest)
            trimmed = _ARROW.ascii_rtrim(decimals, "0")
            decimals = _ARROW.if_else(
                _ARROW.greater_equal(_ARROW.binary_length(trimmed), self.fewest), trimmed, shortest
            )
        if self.whole:
            decimals = _ARROW.if_else(pyarrow.array(remainder == 0), scalar(""), decimals)
        point = _ARROW.if_else(_ARROW.equal(decimals, ""), scalar(""), scalar(self.point))
        plus_sign = scalar("+" if self.plus else "")
        is_negative, is_positive = pyarrow.array(units < 0), pyarrow.array(units > 0)
        sign = _ARROW.if_else(is_negative, scalar("-"), _ARROW.if_else(is_positive, plus_sign, scalar("")))
        parts = (sign, scalar(self.before), digits, point, decimals, scalar(self.after))
        return _ARROW.binary_join_element_wise(*parts, scalar(""))

    @property
    def plain(self) -> bool:
        """True if numbers in this format keep their text when they are stored with a numeric dtype."""
        return not (self.width or self.before or self.after or self.plus or self.thousands or self.point == ",")


@dataclass(frozen=True, eq=False)
class ParsedNumbers:
    """Numbers parsed from n cells, as arrays [n]."""

    valid: Bool[np.ndarray, " n"]
    """True if the cell is a number; otherwise the other fields are meaningless."""
    units: Int64[np.ndarray, " n"]
    """Number as an integer in units of the last decimal place, rounded down, clipped to +-2^62."""
    exact: Bool[np.ndarray, " n"]
    """True if the number was not rounded to get `units`."""
    behind: Int64[np.ndarray, " n"]
    """Number of digits after the decimal point."""
    before: Int64[np.ndarray, " n"]
    """Number of digits before the decimal point."""


_MONEY = r"[$€£¥]"
_BEFORE = rf"[+-]?({_MONEY})"
_AFTER = rf".*[0-9]( ?(?:%|{_MONEY}))"
_TRIED = 64
"""Number of cells that are parsed one by one before all others, to rule out most text columns quickly."""
_SIGNS = ((".", ""), (".", ","), (",", ""), (",", "."), (".", "'"), (".", " "), (",", " "))
"""Pairs of decimal point and thousands separator, in the order in which they are tried."""
_DAYS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d-%m-%Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
)
_TIMES = ("", " %H:%M:%S", " %H:%M", "T%H:%M:%S", "T%H:%M:%SZ", "T%H:%M", " %H:%M:%S.%f", "T%H:%M:%S.%f")
DATES = (*(day + time for day in _DAYS for time in _TIMES), "%Y-%m", "%b %Y", "%B %Y")
"""Date and time formats, in the order in which they are tried."""
LARGEST_DIGITS = 17


def detect_number_format(cells: Sequence[str] | pyarrow.Array) -> NumberFormat | None:
    """Detect the number format of cells; None if any cell is not a number.

    The number of decimals of the format is the largest one in any cell.
    """
    words = cells if isinstance(cells, pyarrow.Array) else text_array(cells)
    sample: list[str] = words.slice(0, _TRIED).to_pylist()
    prefix, suffix = _common_affix(_BEFORE, words, sample), _common_affix(_AFTER, words, sample)
    for point, thousands in _SIGNS:
        form = NumberFormat(MOST_DECIMALS, point=point, thousands=thousands, before=prefix, after=suffix)
        if all(form.read(cell) is not None for cell in sample):
            parsed = form.parse(words)
            if parsed.valid.all():
                return _detect_digits(words, parsed, form)
    return None


def not_numbers(words: pyarrow.Array, most: int) -> list[str]:
    """Return at most `most` cells, the first ones that are not numbers in any format."""
    non_numbers = [cell for cell in words.slice(0, _TRIED).to_pylist() if detect_number_format([cell]) is None]
    remaining = words.slice(_TRIED)
    for point, thousands in _SIGNS:
        if len(non_numbers) < most and len(remaining):
            valid = NumberFormat(MOST_DECIMALS, point=point, thousands=thousands).parse(remaining).valid
            remaining = remaining.filter(pyarrow.array(~valid))
    for cell in remaining:
        if len(non_numbers) >= most:
            break
        non_numbers += [cell.as_py()] if detect_number_format([cell.as_py()]) is None else []
    return non_numbers[:most]


def _common_affix(pattern: str, words: pyarrow.Array, sample: Sequence[str]) -> str:
    """Return the prefix or suffix that `pattern` finds in all cells; empty if it is missing or differs in a cell."""
    affixes = {match[1] if (match := re.match(pattern, cell)) else "" for cell in sample}
    if len(affixes) != 1 or "" in affixes:
        return ""
    affix = affixes.pop()
    matches = _ARROW.struct_field(_ARROW.extract_regex(words, f"^{pattern}".replace("(", "(?P<sign>", 1)), "sign")
    return affix if _ARROW.all(_ARROW.equal(matches, affix).fill_null(False)).as_py() else ""


def _detect_digits(words: pyarrow.Array, parsed: ParsedNumbers, form: NumberFormat) -> NumberFormat | None:
    if not len(words):
        return None
    num_decimals, most_digits = parsed.behind, int(parsed.before.max())
    decimals = max(0, min(int(num_decimals.max()), MOST_DECIMALS, LARGEST_DIGITS - most_digits))
    fewest = min(int(num_decimals.min()), decimals)
    is_whole = decimals > 1 and set(np.unique(num_decimals).tolist()) == {0, decimals}
    fewest = decimals if is_whole else fewest
    unprefixed = _ARROW.replace_substring_regex(words, r"^[^0-9]*", "")
    integers = _ARROW.replace_substring_regex(unprefixed, rf"\{form.point}.*", "")
    zero_padded = integers.filter(_ARROW.match_substring_regex(integers, r"^0[0-9]+$"))
    width = _ARROW.min(_ARROW.binary_length(zero_padded)).as_py() or 0
    positives = words.filter(pyarrow.array((parsed.units > 0) | ((parsed.units == 0) & ~parsed.exact)))
    has_plus = len(positives) > 0 and _ARROW.all(_ARROW.match_substring(positives, "+")).as_py()
    has_thousands = form.thousands and _ARROW.any(_ARROW.match_substring(integers, form.thousands)).as_py()
    return NumberFormat(
        decimals,
        None if fewest == decimals else fewest,
        form.point,
        form.thousands if has_thousands else "",
        min(width, 18),
        has_plus,
        form.before,
        form.after,
        is_whole,
    )


MIN_TIMES = 5
"""Minimum number of different times of a column from which parts that are always 0 are constants of its format."""


def date_format(cells: Sequence[str] | pyarrow.Array) -> tuple[str, datetime.datetime, datetime.datetime] | None:
    """Return a date format that fits all cells, and the first and the last date; None if no format fits.

    If several formats fit, one that reproduces the text of the cells is preferred. Seconds, minutes and hours that are
    0 in all cells are constants of the format.
    """
    words = cells if isinstance(cells, pyarrow.Array) else text_array(cells)
    sample: list[str] = words.slice(0, _TRIED).to_pylist()
    candidates: list[tuple[str, datetime.datetime, datetime.datetime]] = []
    if not all(any(character.isdigit() for character in cell) for cell in sample):  # every format has digits
        return None
    for form in DATES:
        if not all(is_in_format(cell, form) for cell in sample):
            continue
        times = read_times(words, form, exactly=True)
        if np.isnat(times).any():
            continue
        bounds = times.min().item(), times.max().item()
        unpadded = re.sub("%([dmH])", "%-\\1", form)
        for candidate in (_without_zeros(form, times), _without_zeros(unpadded, times)):
            if write_times(times, candidate).equals(words):
                return candidate, *bounds
        candidates.append((form, *bounds))
    return candidates[0] if candidates else None


def _without_zeros(form: str, times: np.ndarray) -> str:
    """Return a time format with zeros for its finest parts that are 0 in all `times`; unchanged if they are few."""
    if len(times) < MIN_TIMES:
        return form
    for directive, unit, zeros in (("%f", "s", "000000"), ("%S", "m", "00"), ("%M", "h", "00"), ("%H", "D", "00")):
        if directive in form and (times != times.astype(f"M8[{unit}]")).any():
            break
        form = form.replace(directive, zeros)
    return form


def is_in_format(cell: str, form: str) -> bool:
    """Return True if a cell is a date or time in the format `form`."""
    try:
        in_format(cell, form)
    except ValueError:
        return False
    return True


def first_and_last(low: datetime.datetime, high: datetime.datetime, form: str) -> tuple[str, str]:
    """Return the first time of the month of `low` and the last time of the month of `high`, in the date format `form`.

    If `low` and `high` are at most 60 days apart, they are those of the days before and after.
    """
    first_day, last_day, day = low.date(), high.date(), datetime.timedelta(days=1)
    if high - low > 60 * day:
        first_day = first_day.replace(day=1)
        last_day = last_day.replace(day=calendar.monthrange(high.year, high.month)[1])
    else:
        first_day = max(first_day, datetime.date.min + day) - day
        last_day = min(last_day, datetime.date.max - day) + day
    first = datetime.datetime.combine(first_day, datetime.time.min)
    last = datetime.datetime.combine(last_day, datetime.time.max)
    bounds = write_time(first, form), write_time(last, form)
    for bound in bounds:
        if not is_in_format(bound, form):
            raise InputError(
                f"dates such as {write_time(low, form)!r} have two-digit years, which are ambiguous for these bounds",
                remedy="Write years with four digits",
            )
    return bounds
