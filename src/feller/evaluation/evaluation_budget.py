"""Budget of an evaluation: number of examples and time limit."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from feller.core.errors import UsageError
from feller.training.engine import Engine

MIN_EXAMPLES = 16
"""Minimum number of examples evaluated under a time limit."""
PACE_FRACTION = 16
"""Inverse of the smallest fraction of examples that is evaluated under a time limit."""
TRIAL_FRACTION = 0.25
"""Fraction of the available time after which no larger trial of the speed starts."""
TRIAL_GROWTH = 4
"""Factor by which the number of examples grows between trials of the speed."""
MAX_OVERRUN = 2.0
"""Factor by which optional work may exceed the available time."""
REPORTS = ("full", "quick", "none")
"""Values of the option `report`; without it, the time limit of a report is proportional to the training time."""
TRAINING_FRACTION, MIN_SECONDS, MAX_SECONDS = 0.2, 10.0, 120.0
"""Time limit of a report as a fraction of the training time, and the bounds of this limit in seconds."""
QUICK_SECONDS = 10.0
"""Time limit of a quick report."""


@dataclass(frozen=True)
class EvaluationBudget:
    """Limits of an evaluation; unlimited by default."""

    seconds: float | None = None
    """Target time in seconds; None for no limit."""
    n: int | None = None
    """Number of evaluated samples or examples; None for the default number."""

    @classmethod
    def for_report(cls, report: str | None, training_seconds: float) -> "EvaluationBudget":
        """Return the budget of a report after training.

        The `report` "full" has no time limit, and "quick" has the limit QUICK_SECONDS. Otherwise the limit is a fifth
        of the training time, but at least 10 and at most 120 seconds.

        Raises:
            UsageError: If `report` is not a valid option.
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
        """Return a budget of a fifth of `seconds`, but at least `min_seconds` and at most `max_seconds`."""
        return cls(min(max(TRAINING_FRACTION * seconds, min_seconds), max_seconds))

    def limit(self, max_examples: int, usual_seconds: float) -> int:
        """Return how many of at most `max_examples` examples fit in the time limit.

        `usual_seconds` is the approximate time for `max_examples` examples.
        """
        if self.n is not None:
            return min(self.n, max_examples)
        if self.seconds is None or self.seconds >= usual_seconds:
            return max_examples
        return max(min(MIN_EXAMPLES, max_examples), int(max_examples * self.seconds / usual_seconds))

    def num_affordable(
        self,
        max_examples: int,
        fraction: float,
        work: Callable[[int], object],
        engine: Engine,
        *,
        is_optional: bool = False,
        min_examples: int | None = None,
    ) -> int:
        """Return `max_examples`, halved until work on so many examples takes at most `fraction` of the time limit.

        The result is at least `MIN_EXAMPLES` and a sixteenth of `max_examples`. If even this takes more than
        `MAX_OVERRUN` times the available time, optional work gives 0 instead, and other work is halved further down to
        `min_examples`, if given. The speed is measured by calls of `work(n)`, which must process n examples: one
        example per process first, then more while that is fast. All processes must call this method, and get the same
        result.
        """
        smallest = max(min(MIN_EXAMPLES, max_examples), max_examples // PACE_FRACTION)
        if self.seconds is None or smallest >= max_examples:
            return max_examples

        def measure(n: int) -> float:
            start = time.monotonic()
            work(n)
            return engine.broadcast_float(time.monotonic() - start)

        available, n = fraction * self.seconds, min(engine.world_size, smallest)
        seconds = measure(n)
        if seconds <= MAX_OVERRUN * available:  # the first call may include initialisation
            seconds = min(seconds, measure(n))
        while n < smallest and seconds < TRIAL_FRACTION * available:
            n = min(TRIAL_GROWTH * n, smallest)
            seconds = measure(n)
        if seconds * smallest / n > MAX_OVERRUN * available:
            if is_optional:
                return 0
            smallest = smallest if min_examples is None else min(smallest, min_examples)
        affordable = max_examples
        while seconds * affordable / n > available and affordable > smallest:
            affordable = max(affordable // 2, smallest)
        return affordable


def kind_of_report(report: str | bool | None) -> str | None:
    """Normalize the option `report`: False becomes "none", and True becomes None, the default."""
    return {False: "none", True: None}[report] if isinstance(report, bool) else report
