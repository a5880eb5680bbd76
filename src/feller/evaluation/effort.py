"""How much an evaluation may cost: a number of examples, and seconds that scale it down."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from feller.core.errors import UsageError
from feller.training.engine import Engine

FEWEST = 16
"""Examples below which nothing is scaled down."""
PART = 16
"""The pace is that of the first of so many parts."""
REPORTS = ("full", "quick", "none")
"""What a report may be asked to be; by default it is in proportion to the training."""
SHARE, LEAST, MOST = 0.2, 10.0, 120.0
"""Share of the training that a report may take, and its seconds at least and at most."""
QUICK = 10.0
"""Seconds of a quick report."""


@dataclass(frozen=True)
class Effort:
    """What an evaluation may cost; by default all that is usual."""

    seconds: float | None = None
    """Aimed at; None for no limit."""
    n: int | None = None
    """Samples, or other examples, that are measured."""

    @classmethod
    def of_report(cls, report: str | None, training_seconds: float) -> "Effort":
        """Return what a report after a training may cost: a fifth of that, from 10 seconds to two minutes.

        UsageError if the report is of no known kind.
        """
        if report == "full":
            return cls()
        if report == "quick":
            return cls(QUICK)
        if report not in (None, "none"):
            raise UsageError.unknown_name("report", report, REPORTS)
        return cls.beside(training_seconds)

    @classmethod
    def beside(cls, seconds: float, least: float = LEAST, most: float = MOST) -> "Effort":
        """Return a fifth of the seconds of some work, within bounds."""
        return cls(min(max(SHARE * seconds, least), most))

    def limit(self, most: int, usual_seconds: float) -> int:
        """Return how many of the usual examples are measured, where all take about so many seconds."""
        if self.n is not None:
            return min(self.n, most)
        if self.seconds is None or self.seconds >= usual_seconds:
            return most
        return max(min(FEWEST, most), int(most * self.seconds / usual_seconds))

    def affordable(self, most: int, share: float, work: Callable[[int], object], engine: Engine) -> int:
        """Return how many of the usual examples fit: all, or a half, a quarter, ... by the pace of the first few.

        `work` does so many, to be timed, within a share of the seconds; without a limit of time all `most` do. All
        processes call, and get one answer.
        """
        few = max(min(FEWEST, most), most // PART)
        if self.seconds is None or few >= most:
            return most
        begin = time.monotonic()
        work(few)
        took, parts = engine.broadcast_float(time.monotonic() - begin), 1
        while took * most / parts / few > share * self.seconds and most // (2 * parts) >= few:
            parts *= 2
        return most // parts


def kind_of_report(report: str | bool | None) -> str | None:
    """Return the kind of a report: None is none, and True what is usual."""
    return {False: "none", True: None}[report] if isinstance(report, bool) else report
