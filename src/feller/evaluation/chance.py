"""The distance of real data as a mean over many choices, and how far chance alone may move samples beside it."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.rng import Draws

Items = TypeVar("Items", Tensor, list[str])
Apart = Callable[[Items, Items], float | None]
"""Distance of two sets."""
EXPLAIN_CHANCE = {
    "chance_factor": "By which factor, up or down, chance alone may move how many times as far samples are from real"
    " data as these are from each other: two deviations, told from random halves of all. Few held-out examples"
    " or few samples make it large.",
}
"""What the number means, for people."""
FLOORS, HALVES = 8, 24
"""Choices of real data over which a floor is a mean, and random halves from which the factor is found."""
DEVIATIONS = 2.0


@dataclass(frozen=True)
class Beside:
    """A distance of samples, the mean one of as many real data, and what chance may do to their quotient."""

    value: float | None
    floor: float | None = None
    factor: float | None = None


def beside(
    apart: Apart[Items],
    samples: Items,
    real: Items,
    known: Items | None,
    draws: Draws,
    *,
    roughly: Apart[Items] | None = None,
) -> Beside:
    """Measure samples beside real data, and so as many of the known data, a mean over several choices.

    Args:
        apart: Distance of two sets.
        samples: What is measured.
        real: Beside what.
        known: Training data, as many as the samples or more; None where `real` are these.
        draws: Source of the choices.
        roughly: A quicker distance that varies alike, for the many halves; by default the same.
    """
    value = apart(samples, real)
    if known is None or value is None:
        return Beside(value)
    size, several = len(samples), FLOORS if len(known) > len(samples) else 1
    chosen = [apart(_some(known, size, draws.named("floor", i)), real) for i in range(several)]
    floors = [one for one in chosen if one is not None]
    if not floors:
        return Beside(value)
    return Beside(value, statistics.fmean(floors), factor(_quotients(roughly or apart, samples, real, known, draws)))


def factor(quotients: Sequence[float]) -> float | None:
    """Return by which factor such quotients vary, two deviations of their logarithms; None of fewer than two."""
    logs = [log(one) for one in quotients if one > 0]
    return exp(DEVIATIONS * statistics.stdev(logs)) if len(logs) > 1 else None


def halves(sizes: Sequence[int], draws: Draws) -> Iterator[list[Int[Tensor, " half"]]]:
    """Yield random halves of several sets, again and again.

    The variance of a mean over a half that is chosen without replacement is, given the set, that of the mean over the
    set itself: so halves vary as other sets of the whole size would (delete-half jackknife).
    Source: Shao and Wu 1989, "A general theory for jackknife variance estimation", Annals of Statistics 17.
    """
    for i in range(HALVES):
        yield [_rows(n, max(n // 2, 1), draws.named("half", i, k)) for k, n in enumerate(sizes)]


def _quotients(apart: Apart[Items], samples: Items, real: Items, known: Items, draws: Draws) -> list[float]:
    """Return how many times as far halves of the samples are as halves of real data."""
    found = []
    for rows in halves([len(samples), len(real), len(samples)], draws):
        some, others = _take(samples, rows[0]), _take(real, rows[1])
        value, floor = apart(some, others), apart(_some(known, len(rows[2]), draws.named("known", len(found))), others)
        if value is not None and floor:
            found.append(value / floor)
    return found


def _rows(n: int, size: int, draws: Draws) -> Int[Tensor, " size"]:
    return torch.randperm(n, generator=draws.at("rows").shared())[:size]


def _some(items: Items, size: int, draws: Draws) -> Items:
    return items if size >= len(items) else _take(items, _rows(len(items), size, draws))


def _take(items: Items, rows: Int[Tensor, " k"]) -> Items:
    return cast(Items, items[rows] if isinstance(items, Tensor) else [items[i] for i in rows.tolist()])


def mean_energy(
    between: Float[Tensor, "n m"], within: Float[Tensor, "n n"], real: Float[Tensor, "m m"], size: int
) -> float:
    """Return the mean of 2 E d(X, Y) - E d(X, X') - E d(Y, Y') over all choices of `size` of n points, from distances.

    A point also meets itself, at no distance: of n points it is the energy distance itself.

    Args:
        between: From each point to each real one.
        within: Among the points.
        real: Among the real ones.
        size: Points that are chosen, n at most.
    """
    n = len(within)
    apart = within.sum().item() / max(n * (n - 1), 1) * (1 - 1 / size)
    return max(2 * between.mean().item() - apart - real.mean().item(), 0.0)
