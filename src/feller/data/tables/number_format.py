"""How numbers are written in the cells of a column."""

import re
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from feller.core.errors import InputError

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
