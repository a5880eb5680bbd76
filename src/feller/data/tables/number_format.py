"""Formats of numbers and dates in cells, and their detection."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from feller.core.errors import InputError
from feller.data.tables.dates import in_format, write_time

MOST_DECIMALS = 12
LARGEST = 30
"""Powers of ten beyond which a number is none."""


@dataclass(frozen=True)
class NumberForm:
    """Whole multiples of 10^-decimals, and the signs around them."""

    decimals: int = 0
    """Digits behind the point, at most."""
    fewest: int | None = None
    """Digits behind the point, at least, where zeros at the end are left out; None to write all."""
    point: str = "."
    thousands: str = ""
    """What stands between groups of three digits."""
    width: int = 0
    """Digits before the point, at least, filled up with zeros."""
    plus: bool = False
    """Whether numbers above zero have a sign."""
    before: str = ""
    """What stands before each number, such as a currency."""
    after: str = ""
    """What stands behind each number, such as %."""

    def __post_init__(self) -> None:
        if not 0 <= self.decimals <= MOST_DECIMALS:
            raise InputError(f"expected 0 to {MOST_DECIMALS} decimals, got {self.decimals}")
        if self.fewest is not None and not 0 <= self.fewest <= self.decimals:
            raise InputError(
                f"expected at least 0 and at most {self.decimals} as the fewest decimals, got {self.fewest}"
            )
        if (
            self.point not in (".", ",")
            or self.thousands not in ("", ",", ".", "'", " ")
            or self.point == self.thousands
        ):
            raise InputError(
                f"expected a point of . or , and another sign between thousands (, . ' or a blank), got {self.point!r}"
                f" and {self.thousands!r}"
            )
        if not 0 <= self.width <= 18:
            raise InputError(f"expected a width of 0 to 18 digits, got {self.width}")
        if re.search(r"[\d.,+-]", self.before + self.after) or (self.before + self.after).strip("\r\n\0") != (
            self.before + self.after
        ):
            raise InputError(
                f"what stands around a number holds no digits or signs, got {self.before!r}, {self.after!r}"
            )

    def read(self, cell: str) -> Decimal | None:
        """Return the number in a cell; None where there is none."""
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
            number if not number or abs(number.adjusted()) <= LARGEST else Decimal(0) if number.adjusted() < 0 else None
        )

    def grid(self, number: Decimal) -> int:
        """Return the last whole multiple of our unit that is not above a number."""
        return int(number.scaleb(self.decimals).to_integral_value(ROUND_FLOOR))

    def exact(self, number: float, name: str, what: str) -> int:
        """Return how many of our units a number of a schema is.

        Raises:
            InputError: If it is no whole multiple of our unit.
        """
        if not abs(number) < 10**18:
            raise InputError(f"column {name!r}: {what} {number:g} is too large or no number")
        wanted = Decimal(repr(number)).scaleb(self.decimals)
        if wanted != wanted.to_integral_value():
            raise InputError(
                f"column {name!r}: {what} {number!r} has more than {self.decimals} decimals, which its numbers have;"
                ' round it, or raise "decimals" in its "form"'
            )
        return int(wanted)

    def write(self, units: int) -> str:
        """Write a number of our units."""
        whole, part = divmod(abs(units), 10**self.decimals)
        digits = f"{whole:0{self.width}d}" if self.width else f"{whole:,}".replace(",", self.thousands)
        behind = f"{part:0{self.decimals}d}" if self.decimals else ""
        if self.fewest is not None:
            kept = behind.rstrip("0")
            behind = kept if len(kept) >= self.fewest else behind[: self.fewest]
        sign = "-" if units < 0 else "+" if self.plus and units > 0 else ""
        return f"{sign}{self.before}{digits}{self.point if behind else ''}{behind}{self.after}"

    @property
    def plain(self) -> bool:
        """Whether a data frame keeps such numbers as numbers, without losing how they are written."""
        return not (self.width or self.before or self.after or self.plus or self.thousands or self.point == ",")


_MONEY = r"[$€£¥]"
_SIGNS = ((".", ""), (".", ","), (",", ""), (",", "."), (".", "'"), (".", " "), (",", " "))
"""Point, and sign between thousands, in the order in which they are tried."""
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
"""Formats of dates and times, in the order in which they are tried."""
LARGEST_DIGITS = 17


def number_form(cells: Sequence[str]) -> NumberForm | None:
    """Return how numbers are written; None where a cell is none.

    Of different cells, the digits behind the point are as many as the longest has.
    """
    before = _shared(rf"[+-]?({_MONEY})", cells)
    after = _shared(rf".*\d( ?(?:%|{_MONEY}))", cells)
    for point, thousands in _SIGNS:
        form = NumberForm(MOST_DECIMALS, point=point, thousands=thousands, before=before, after=after)
        if all(form.read(cell) is not None for cell in cells):
            return _as_written(cells, form)
    return None


def _shared(pattern: str, cells: Sequence[str]) -> str:
    """Return the sign around a number that all cells have."""
    found = {match[1] if (match := re.match(pattern, cell)) else "" for cell in cells}
    return found.pop() if len(found) == 1 else ""


def _as_written(cells: Sequence[str], form: NumberForm) -> NumberForm | None:
    """Say how many digits there are before and behind the point."""
    numbers = [number for cell in cells if (number := form.read(cell)) is not None]
    if not numbers:
        return None
    behind = [max(0, -int(number.as_tuple().exponent)) for number in numbers]  # pyrefly: ignore
    largest = max(max(0, number.adjusted() + 1) for number in numbers)
    decimals = max(0, min(max(behind), MOST_DECIMALS, LARGEST_DIGITS - largest))
    fewest = min(min(behind), decimals)
    whole = [re.sub(r"^\D*", "", cell).split(form.point)[0] for cell in cells]
    led = [len(digits) for digits in whole if re.fullmatch(r"0\d+", digits)]
    positive = [cell for cell, number in zip(cells, numbers, strict=True) if number > 0]
    grouped = form.thousands if any(form.thousands in digits for digits in whole) else ""
    return NumberForm(
        decimals,
        None if fewest == decimals else fewest,
        form.point,
        grouped,
        min(min(led), 18) if led else 0,
        bool(positive) and all("+" in cell for cell in positive),
        form.before,
        form.after,
    )


def date_format(cells: Sequence[str]) -> str | None:
    """Return the format in which all cells are dates; of several, one that writes them as they are."""
    able: list[str] = []
    for form in DATES:
        if not all(reads(cell, form) for cell in cells):
            continue
        bare = re.sub("%([dmH])", "%-\\1", form)
        for each in (form, bare):
            if all(write_time(in_format(cell, each), each) == cell for cell in cells):
                return each
        able.append(form)
    return able[0] if able else None


def reads(cell: str, form: str) -> bool:
    """Tell whether a cell is a time in a format."""
    try:
        in_format(cell, form)
    except ValueError:
        return False
    return True


def first_and_last(cells: Sequence[str], form: str) -> tuple[str, str]:
    """Return round bounds around dates: years, or months or days where there are few of them."""
    times = sorted(in_format(cell, form) for cell in cells)
    low, high = times[0], times[-1]
    if high - low > datetime.timedelta(days=2 * 365):
        first, last = datetime.datetime(max(low.year - 1, 1), 1, 1), datetime.datetime(min(high.year + 2, 9999), 1, 1)
    elif high - low > datetime.timedelta(days=60):
        first, last = _month(low, -1), _month(high, 2)
    else:
        day = datetime.timedelta(days=1)
        first, last = (
            datetime.datetime(low.year, low.month, low.day) - day,
            datetime.datetime(high.year, high.month, high.day) + 2 * day,
        )
    bounds = write_time(first, form), write_time(last - datetime.timedelta(microseconds=1), form)
    for bound in bounds:
        if not reads(bound, form):
            raise InputError(f"dates such as {cells[0]!r} have too few digits of the year; write them with four")
    return bounds


def _month(when: datetime.datetime, further: int) -> datetime.datetime:
    months = 12 * when.year + when.month - 1 + further
    return datetime.datetime(months // 12, months % 12 + 1, 1)
