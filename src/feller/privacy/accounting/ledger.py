"""Privacy ledger of a run, its default delta, and formatting of epsilon as text."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.accountant import compute_epsilon, rdp_epsilon
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, PoissonSubsampledGaussian

SAFE_DELTA = 1e-5


def default_delta(n: int) -> float:
    """Return the default delta for n rows: min(1e-5, 1 / n^1.1); UsageError if n is below 2."""
    if n < 2:
        raise UsageError("2 rows or more for differential privacy", n)
    return min(SAFE_DELTA, n**-1.1)


@dataclass(frozen=True)
class Ledger:
    """List of the DP events on one table, whose number of rows is public; the unit of privacy is one row."""

    events: tuple[DpEvent, ...]
    delta: float
    n: int
    """Number of rows of the table."""
    reserved_delta: float = 0.0
    """Part of delta already spent: the probability of releasing a value that only one row has."""
    table: str = ""
    """Keyed hash of the table, by which only its owner can recognise it; empty in ledgers of older versions."""

    def __post_init__(self) -> None:
        check_number("n", self.n, ge=1)
        if not 0 < self.delta < 1 / self.n:
            raise UsageError(
                f"a value between 0 and 1 / {self.n:,} (one over the number of rows)",
                f"{self.delta:g}",
                f"Use {default_delta(max(self.n, 2)):.2g}, the default",
                argument="delta",
            )
        if not 0 <= self.reserved_delta < self.delta:
            raise UsageError(f"a reserved delta below delta, {self.delta:g}", f"{self.reserved_delta:g}")

    def epsilon(self, method: Literal["pld", "rdp"] = "pld") -> float:
        """Return the spent epsilon: by privacy loss distributions ("pld"), or by Rényi DP only ("rdp")."""
        if method not in ("pld", "rdp"):
            raise UsageError("the method pld or rdp", repr(method))
        accountant = compute_epsilon if method == "pld" else rdp_epsilon
        return accountant(self.events, self.available_delta)

    @property
    def available_delta(self) -> float:
        """Part of delta that remains for the events of the ledger."""
        return self.delta - self.reserved_delta

    def add(self, event: DpEvent) -> "Ledger":
        """Return the ledger with one more event; an event equal to the last event is merged with that event."""
        last = self.events[-1] if self.events else None
        if isinstance(event, PoissonSubsampledGaussian) and isinstance(last, PoissonSubsampledGaussian):
            merged = replace(last, steps=last.steps + event.steps)
            if merged == replace(event, steps=merged.steps):
                return replace(self, events=(*self.events[:-1], merged))
        if isinstance(event, GaussianMechanism) and isinstance(last, GaussianMechanism):
            merged = replace(last, times=last.times + event.times)
            if merged == replace(event, times=merged.times):
                return replace(self, events=(*self.events[:-1], merged))
        return replace(self, events=(*self.events, event))

    def describe_events(self, unit: str = "row") -> tuple[str, ...]:
        """Return one line per event, with the epsilon of that event alone, and one line for the total.

        `unit` is the noun for what one row of the ledger stands for, such as a person.
        """
        lines = (
            f"{event.label}: {event.describe()}; alone epsilon {compute_epsilon((event,), self.available_delta):.4g}"
            for event in self.events
        )
        return (*lines, f"total: epsilon {self.epsilon():.4g} at delta {self.delta:.3g}, {self.n:,} {unit}s")


WEAK_EPSILON, MEANINGLESS_EPSILON = 10.0, 15.0
"""Values of epsilon from which on a guarantee is called weak (first) and practically meaningless (second)."""
NAMES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
MAX_POWER_OF_TEN = 15.0
"""Smallest n at which e^epsilon is written as 10^n; smaller values are written in words, such as "2.8 million"."""


def describe_weakness(epsilon: float) -> str:
    """Return a predicate about a weak guarantee, such as "is weak"; empty text below `WEAK_EPSILON`."""
    if epsilon >= MEANINGLESS_EPSILON:
        return "promises next to nothing"
    return "is weak" if epsilon >= WEAK_EPSILON else ""


def format_exp_epsilon(epsilon: float) -> str:
    """Format e^epsilon as text, rounded up, for example "2.8 million"."""
    power = epsilon / math.log(10)
    if power >= MAX_POWER_OF_TEN:
        return f"10^{math.ceil(power)}" if math.isfinite(power) else "any number of"
    value = math.exp(epsilon)
    for unit, name in NAMES:
        if value >= unit:
            return f"{format_rounded_up(value / unit, 2)} {name}"
    return format_rounded_up(value)


def format_rounded_up(value: float, count: int = 3) -> str:
    """Format a number with `count` significant digits, rounded up."""
    if not math.isfinite(value):
        return f"{value}"
    digits = count - 1 - math.floor(math.log10(value)) if value > 0 else count - 1
    return f"{math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits:,.{max(digits, 0)}f}"
