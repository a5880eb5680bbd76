"""A report is in proportion to the training, and what is measured is scaled by halves to the time there is."""

import pytest

from feller.core.errors import UsageError
from feller.evaluation import effort as module
from feller.evaluation.effort import LEAST, MOST, QUICK, SHARE, Effort
from feller.training.engine import engine


class Clock:
    """Each example takes so many seconds."""

    def __init__(self, pace: float) -> None:
        self.pace, self.now, self.done = pace, 0.0, 0

    def monotonic(self) -> float:
        return self.now

    def work(self, n: int) -> None:
        self.now += self.pace * n
        self.done += n


@pytest.mark.parametrize(
    ("report", "training", "seconds"),
    [(None, 100.0, SHARE * 100), (None, 1.0, LEAST), (None, 1e6, MOST), ("quick", 1e6, QUICK), ("full", 1.0, None)],
)
def test_a_report_takes_a_share_of_the_training(
    report: str | None, training: float, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feller.evaluation.effort.LEAST", LEAST)  # other tests have more
    assert Effort.of_report(report, training).seconds == seconds


def test_a_report_of_no_known_kind_is_refused() -> None:
    with pytest.raises(UsageError):
        Effort.of_report("fast", 1.0)


@pytest.mark.parametrize(
    ("pace", "n", "tried"), [(0.001, 1024, 64), (0.009, 1024, 64), (0.011, 512, 64), (0.05, 128, 64), (1.0, 64, 64)]
)
def test_what_fits_is_a_half_or_a_quarter_of_all(
    pace: float, n: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds for 1,024 examples, of which a sixteenth is tried."""
    clock = Clock(pace)
    monkeypatch.setattr(module, "time", clock)
    assert Effort(20.0).affordable(1024, 0.5, clock.work, engine()) == n
    assert clock.done == tried


def test_few_examples_and_no_limit_are_not_tried() -> None:
    clock = Clock(1.0)
    assert Effort(1.0).affordable(16, 1.0, clock.work, engine()) == 16
    assert Effort().affordable(1000, 1.0, clock.work, engine()) == 1000
    assert clock.done == 0


def test_examples_are_limited_by_number_or_by_what_they_usually_take() -> None:
    assert Effort().limit(100, 60.0) == 100
    assert Effort(30.0).limit(100, 60.0) == 50
    assert Effort(1.0).limit(100, 60.0) == 16
    assert Effort(90.0).limit(100, 60.0) == 100
    assert Effort(n=7).limit(100, 60.0) == 7
    assert Effort(n=700).limit(100, 60.0) == 100
