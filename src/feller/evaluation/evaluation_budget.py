"""How much an evaluation may cost: a number of examples, and seconds that scale it down."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from feller.core.errors import UsageError
from feller.training.engine import Engine

MIN_EXAMPLES = 16
"""Examples below which nothing is scaled down."""
PACE_FRACTION = 16
"""The pace is that of the first of so many parts."""
REPORTS = ("full", "quick", "none")
"""What a report may be asked to be; by default it is in proportion to the training."""
TRAINING_FRACTION, MIN_SECONDS, MAX_SECONDS = 0.2, 10.0, 120.0
"""Share of the training that a report may take, and its seconds at least and at most."""
QUICK_SECONDS = 10.0
"""Seconds of a quick report."""


@dataclass(frozen=True)
class EvaluationBudget:
    """What an evaluation may cost; by default all that is usual."""

    seconds: float | None = None
    """Aimed at; None for no limit."""
    n: int | None = None
    """Samples, or other examples, that are measured."""

    @classmethod
    def for_report(cls, report: str | None, training_seconds: float) -> "EvaluationBudget":
        """Return what a report after a training may cost: a fifth of that, from 10 seconds to two minutes.

        UsageError if the report is of no known kind.
        """
        if report == "full":
            return cls()
        if report == "quick":
            return cls(QUICK_SECONDS)
        if report not in (None, "none"):
            raise UsageError.unknown_name("report", report, REPORTS)
        return cls.fraction_of(training_seconds)

    @classmethod
    def fraction_of(
        cls, seconds: float, min_seconds: float = MIN_SECONDS, max_seconds: float = MAX_SECONDS
    ) -> "EvaluationBudget":
        """Return a fifth of the seconds of some work, within bounds."""
        return cls(min(max(TRAINING_FRACTION * seconds, min_seconds), max_seconds))

    def limit(self, max_examples: int, usual_seconds: float) -> int:
        """Return how many of the usual examples are measured, where all take about so many seconds."""
        if self.n is not None:
            return min(self.n, max_examples)
        if self.seconds is None or self.seconds >= usual_seconds:
            return max_examples
        return max(min(MIN_EXAMPLES, max_examples), int(max_examples * self.seconds / usual_seconds))

    def num_affordable(self, max_examples: int, fraction: float, work: Callable[[int], object], engine: Engine) -> int:
        """Return how many of the usual examples fit: all, or a half, a quarter, ... by the pace of the first few.

        `work` does so many, to be timed, within a share of the seconds; without a limit of time all `max_examples` do.
        All processes call, and get one answer.
        """
        few = max(min(MIN_EXAMPLES, max_examples), max_examples // PACE_FRACTION)
        if self.seconds is None or few >= max_examples:
            return max_examples
        begin = time.monotonic()
        work(few)
        took, parts = engine.broadcast_float(time.monotonic() - begin), 1
        while took * max_examples / parts / few > fraction * self.seconds and max_examples // (2 * parts) >= few:
            parts *= 2
        return max_examples // parts


def kind_of_report(report: str | bool | None) -> str | None:
    """Return the kind of a report: None is none, and True what is usual."""
    return {False: "none", True: None}[report] if isinstance(report, bool) else report
