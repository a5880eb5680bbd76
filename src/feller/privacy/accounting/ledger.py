"""Privacy ledger: the DP events of a run, its default delta, and the meaning of epsilon in words."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.accountant import epsilon as epsilon_spent
from feller.privacy.accounting.dp_events import Expense, Gaussian, Subsampled

SAFE_DELTA = 1e-5


def default_delta(n: int) -> float:
    """Return the delta of a table of n rows where none is asked for: min(1e-5, 1 / n^1.1)."""
    if n < 2:
        raise UsageError("a private run needs 2 rows or more", found=n)
    return min(SAFE_DELTA, n**-1.1)


@dataclass(frozen=True)
class Ledger:
    """Expenses about one table, of which the number of rows is public; the unit is one row, added or removed."""

    expenses: tuple[Expense, ...]
    delta: float
    n: int
    """Rows."""
    reserved: float = 0.0
    """Of delta, what is already taken: chances that a value of one row alone was told."""
    table: str = ""
    """Keyed hash of the table, by which its owner tells it from others; empty in older ledgers."""

    def __post_init__(self) -> None:
        check_number("n", self.n, ge=1)
        if not 0 < self.delta < 1 / self.n:
            raise UsageError(
                f"a value between 0 and 1 / {self.n:,}, the share of one row",
                f"{self.delta:g}",
                f"{default_delta(max(self.n, 2)):.2g} is usual",
                argument="delta",
            )
        if not 0 <= self.reserved < self.delta:
            raise UsageError(f"less reserved than delta, {self.delta:g}", f"{self.reserved:g}")

    def epsilon(self, method: Literal["pld", "rdp"] = "pld") -> float:
        """Return what was spent: by privacy loss distributions, or by Rényi divergences alone."""
        return epsilon_spent(self.expenses, self.open, method=method)

    @property
    def open(self) -> float:
        """What of delta the expenses may use."""
        return self.delta - self.reserved

    def with_(self, expense: Expense) -> "Ledger":
        """Return the ledger with one more expense; more of the last one is counted there."""
        last = self.expenses[-1] if self.expenses else None
        if isinstance(expense, Subsampled) and isinstance(last, Subsampled):
            more = replace(last, steps=last.steps + expense.steps)
            if more == replace(expense, steps=more.steps):
                return replace(self, expenses=(*self.expenses[:-1], more))
        if isinstance(expense, Gaussian) and isinstance(last, Gaussian):
            again = replace(last, times=last.times + expense.times)
            if again == replace(expense, times=again.times):
                return replace(self, expenses=(*self.expenses[:-1], again))
        return replace(self, expenses=(*self.expenses, expense))

    def lines(self) -> tuple[str, ...]:
        """Return a line for each expense, with the epsilon that it would cost alone, and one for all together."""
        each = (
            f"{expense.what}: {expense.words()}; alone epsilon {epsilon_spent((expense,), self.open):.4g}"
            for expense in self.expenses
        )
        return (*each, f"all together: epsilon {self.epsilon():.4g} at delta {self.delta:.3g}, of {self.n:,} rows")


WEAK, NOTHING = 10.0, 15.0
"""Epsilon from which a promise is weak, and from which it promises next to nothing."""
NAMES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
LARGEST = 15.0
"""Power of ten beyond which a factor is one."""


def strength(epsilon: float) -> str:
    """Say where an epsilon protects little, as the end of "a promise that ..."; empty where it does protect."""
    if epsilon >= NOTHING:
        return "promises next to nothing"
    return "is weak" if epsilon >= WEAK else ""


def factor(epsilon: float) -> str:
    """Write e^epsilon, rounded up, so that people can read it."""
    power = epsilon / math.log(10)
    if power >= LARGEST:
        return f"10^{math.ceil(power)}" if math.isfinite(power) else "any number of"
    value = math.exp(epsilon)
    for size, name in NAMES:
        if value >= size:
            return f"{rounded_up(value / size, 2)} {name}"
    return rounded_up(value)


def rounded_up(value: float, count: int = 3) -> str:
    """Write a number with three digits, or so many, rounded up."""
    if not math.isfinite(value):
        return f"{value}"
    digits = count - 1 - math.floor(math.log10(value)) if value > 0 else count - 1
    return f"{math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits:,.{max(digits, 0)}f}"
