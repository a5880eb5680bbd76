"""Claims of a paper, our measurements, and verdicts."""

import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

from feller.app.commands.reproduce import FAILS, HOLDS, UNTESTABLE
from feller.core.errors import UsageError

T = TypeVar("T")
"""Setting of the claims of a paper."""


@dataclass(frozen=True)
class Claim:
    """Claim of a paper with its verdict."""

    claim: str
    paper: str
    """Figure or statement of the paper."""
    ours: str
    """Our measurement, with units."""
    spread: str
    """Seeds and range of the measurement."""
    verdict: str
    """holds, does not hold, or not testable here."""


def verdict(holds: bool) -> str:
    """Return the verdict as a word."""
    return HOLDS if holds else FAILS


def mean_of(values: Sequence[float], digits: int = 4) -> str:
    """Return the formatted mean."""
    return f"{statistics.fmean(values):.{digits}g}"


def numbers_of(values: Iterable[int | float]) -> str:
    """Return formatted numbers, joined by commas."""
    return ", ".join(f"{value:g}" for value in values)


def seeds_of(each: Sized) -> str:
    """Return the formatted number of seeds."""
    return "1 seed" if len(each) == 1 else f"{len(each)} seeds"


def spread_of(values: Sequence[float]) -> str:
    """Return the formatted number of seeds and range."""
    if len(values) == 1:
        return seeds_of(values)
    return f"{seeds_of(values)}, {min(values):.4g} to {max(values):.4g}"


def untestable(claim: str, paper: str, why: str) -> Claim:
    """Return a claim that a laptop cannot test."""
    return Claim(claim, paper, why, "-", UNTESTABLE)


def tested(
    tests: Iterable[Callable[[T], Iterable[Claim]]], setting: T, only: str, beyond: Iterable[Claim]
) -> Iterator[Claim]:
    """Return an iterator over the claims of the selected tests; names are checked immediately.

    Args:
        tests: (setting) -> claims.
        setting: Budgets.
        only: Substring of the names `subject.test`; empty for all.
        beyond: Claims that need more than a laptop; yielded last if all tests are selected.

    Raises:
        UsageError: If no name matches.
    """
    names = {f"{test.__module__.rpartition('.')[2]}.{test.__name__}": test for test in tests}
    chosen = {name: test for name, test in names.items() if only in name}
    last = () if only else beyond
    if not chosen:
        raise UsageError.unknown_name("test", only, names)
    return itertools.chain(itertools.chain.from_iterable(test(setting) for test in chosen.values()), last)
