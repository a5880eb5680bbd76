"""How the cells of a column are written: numbers with their signs, dates by their parts."""

import datetime
import re
from collections.abc import Sequence

from feller.core.errors import InputError
from feller.data.tables.dates import in_format, write_time
from feller.data.tables.number_format import MOST_DECIMALS, NumberForm

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
