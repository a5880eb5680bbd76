"""What a paper says, what we saw, and whether the two agree."""

import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

from feller.app.commands.reproduce import FAILS, HOLDS, UNTESTABLE
from feller.core.errors import UsageError

T = TypeVar("T")
"""How much is spent on the claims of a paper."""


@dataclass(frozen=True)
class Claim:
    """One claim of a paper."""

    claim: str
    paper: str
    """The paper's figure or statement."""
    ours: str
    """What we measured, with units."""
    spread: str
    """Over which seeds, and how far they differ."""
    verdict: str
    """holds, does not hold, or not testable here."""


def verdict(holds: bool) -> str:
    """Return the word for it."""
    return HOLDS if holds else FAILS


def mean_of(values: Sequence[float], digits: int = 4) -> str:
    """Return a mean for people."""
    return f"{statistics.fmean(values):.{digits}g}"


def numbers_of(values: Iterable[int | float]) -> str:
    """Return numbers for people, such as those of calls."""
    return ", ".join(f"{value:g}" for value in values)


def seeds_of(each: Sized) -> str:
    """Return over how many seeds something was measured, from one thing for each of them."""
    return "1 seed" if len(each) == 1 else f"{len(each)} seeds"


def spread_of(values: Sequence[float]) -> str:
    """Return number of seeds and range."""
    if len(values) == 1:
        return seeds_of(values)
    return f"{seeds_of(values)}, {min(values):.4g} to {max(values):.4g}"


def untestable(claim: str, paper: str, why: str) -> Claim:
    """Return a claim that a laptop cannot test."""
    return Claim(claim, paper, why, "-", UNTESTABLE)


def tested(
    tests: Iterable[Callable[[T], Iterable[Claim]]], setting: T, only: str, beyond: Iterable[Claim]
) -> Iterator[Claim]:
    """Return the claims of one test after the other, each as it is tested; what is asked for is checked at once.

    Args:
        tests: (setting) -> claims.
        setting: How much is spent.
        only: Test only those with this in their name, `subject.test`; empty for all.
        beyond: Claims that no laptop can test, which come last where all are asked for.

    Raises:
        UsageError: If no test is called so.
    """
    names = {f"{test.__module__.rpartition('.')[2]}.{test.__name__}": test for test in tests}
    chosen = {name: test for name, test in names.items() if only in name}
    last = () if only else beyond
    if not chosen:
        raise UsageError.unknown_name("test", only, names)
    return itertools.chain(itertools.chain.from_iterable(test(setting) for test in chosen.values()), last)
