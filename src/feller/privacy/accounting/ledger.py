"""Privacy ledger: the DP events of a run, its default delta, and the meaning of epsilon in words."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.accountant import compute_epsilon as epsilon_spent
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian

SAFE_DELTA = 1e-5


def default_delta(n: int) -> float:
    """Return the delta of a table of n rows where none is asked for: min(1e-5, 1 / n^1.1)."""
    if n < 2:
        raise UsageError("a private run needs 2 rows or more", found=n)
    return min(SAFE_DELTA, n**-1.1)


@dataclass(frozen=True)
class Ledger:
    """Expenses about one table, of which the number of rows is public; the unit is one row, added or removed."""

    events: tuple[DpEvent, ...]
    delta: float
    n: int
    """Rows."""
    reserved_delta: float = 0.0
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
        if not 0 <= self.reserved_delta < self.delta:
            raise UsageError(f"less reserved than delta, {self.delta:g}", f"{self.reserved_delta:g}")

    def epsilon(self, method: Literal["pld", "rdp"] = "pld") -> float:
        """Return what was spent: by privacy loss distributions, or by Rényi divergences alone."""
        return epsilon_spent(self.events, self.available_delta, method=method)

    @property
    def available_delta(self) -> float:
        """What of delta the expenses may use."""
        return self.delta - self.reserved_delta

    def add(self, event: DpEvent) -> "Ledger":
        """Return the ledger with one more expense; more of the last one is counted there."""
        last = self.events[-1] if self.events else None
        if isinstance(event, PoissonSubsampledGaussian) and isinstance(last, PoissonSubsampledGaussian):
            more = replace(last, steps=last.steps + event.steps)
            if more == replace(event, steps=more.steps):
                return replace(self, events=(*self.events[:-1], more))
        if isinstance(event, GaussianMechanism) and isinstance(last, GaussianMechanism):
            again = replace(last, times=last.times + event.times)
            if again == replace(event, times=again.times):
                return replace(self, events=(*self.events[:-1], again))
        return replace(self, events=(*self.events, event))

    def describe_events(self) -> tuple[str, ...]:
        """Return a line for each expense, with the epsilon that it would cost alone, and one for all together."""
        each = (
            f"{event.label}: {event.describe()}; alone epsilon {epsilon_spent((event,), self.available_delta):.4g}"
            for event in self.events
        )
        return (*each, f"all together: epsilon {self.epsilon():.4g} at delta {self.delta:.3g}, of {self.n:,} rows")


WEAK_EPSILON, MEANINGLESS_EPSILON = 10.0, 15.0
"""Epsilon from which a promise is weak, and from which it promises next to nothing."""
NAMES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
MAX_POWER_OF_TEN = 15.0
"""Power of ten beyond which a factor is one."""


def describe_weakness(epsilon: float) -> str:
    """Say where an epsilon protects little, as the end of "a promise that ..."; empty where it does protect."""
    if epsilon >= MEANINGLESS_EPSILON:
        return "promises next to nothing"
    return "is weak" if epsilon >= WEAK_EPSILON else ""


def format_exp_epsilon(epsilon: float) -> str:
    """Write e^epsilon, rounded up, so that people can read it."""
    power = epsilon / math.log(10)
    if power >= MAX_POWER_OF_TEN:
        return f"10^{math.ceil(power)}" if math.isfinite(power) else "any number of"
    value = math.exp(epsilon)
    for size, name in NAMES:
        if value >= size:
            return f"{format_rounded_up(value / size, 2)} {name}"
    return format_rounded_up(value)


def format_rounded_up(value: float, count: int = 3) -> str:
    """Write a number with three digits, or so many, rounded up."""
    if not math.isfinite(value):
        return f"{value}"
    digits = count - 1 - math.floor(math.log10(value)) if value > 0 else count - 1
    return f"{math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits:,.{max(digits, 0)}f}"
