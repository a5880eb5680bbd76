"""Which samples are compared with which real data, and how far chance alone moves a distance."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.two_sample import nearest

MOST = 10_000
"""Examples of each set that are compared; distances of all pairs are needed."""
QUERIES = 500
"""Examples whose nearest neighbour is looked for."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Sets cut so that a distance of the samples and its floor, the same distance of real data, have equal sizes."""

    samples: Dataset
    real: Dataset
    """What both are compared with: held-out data, or the training data where there are too few of those."""
    floor: Dataset | None
    """Training data, as many as samples; None where `real` are these already."""


def enough(held_out: Dataset) -> bool:
    """Tell whether so much is held out that what is measured of it is not chance."""
    return held_out.modality.amount(held_out) >= held_out.modality.least


def real_data(train: Dataset, held_out: Dataset) -> Dataset:
    """Return what samples are set beside: held-out data, or the training data where too few are held out."""
    return held_out if enough(held_out) else train


def with_floors(
    found: Mapping[str, float | None], floors: Mapping[str, float | None] | None
) -> dict[str, float | str | None]:
    """Return numbers, each followed by its floor; None where there is none."""
    beside = {name: (value, None if floors is None else floors[name]) for name, value in found.items()}
    return {f"{name}{end}": one for name, both in beside.items() for end, one in zip(("", "_floor"), both, strict=True)}


def pick(dataset: Dataset, most: int, draws: Rng, purpose: str = "pick") -> Dataset:
    """Return at most so many examples, chosen at random; `purpose` is the address of the draw."""
    if len(dataset) <= most:
        return dataset
    return dataset.subset(torch.randperm(len(dataset), generator=draws.stream(purpose).shared_generator())[:most])


def compared(samples: Dataset, train: Dataset, held_out: Dataset) -> int:
    """Return how many samples are compared: all, but no more than there are training data for the floor."""
    return min(len(samples), MOST, len(train) if enough(held_out) else MOST)


def compare(samples: Dataset, train: Dataset, held_out: Dataset, draws: Rng) -> Comparison:
    """Choose at random where there are too many."""
    size = compared(samples, train, held_out)
    drawn = pick(samples, size, draws.fold_in("samples"))
    real = pick(real_data(train, held_out), MOST, draws.fold_in("real"))
    return Comparison(drawn, real, pick(train, size, draws.fold_in("floor")) if enough(held_out) else None)


def flat(dataset: Dataset, like: Dataset) -> Float[Tensor, "n d"]:
    """Return the states of examples as vectors, in the units of a data set's modality."""
    return like.modality.encode(dataset.values).float().flatten(1)


def nearest_ratio(samples: Dataset, train: Dataset, held_out: Dataset, draws: Rng) -> float | None:
    """Divide the median distance to the nearest training example of samples by that of held-out data.

    None if too few are held out, or if most of them are copies of training data.
    """
    if not enough(held_out):
        return None
    drawn = flat(pick(samples, QUERIES, draws.fold_in("samples")), train)
    unseen = flat(pick(held_out, QUERIES, draws.fold_in("held out")), train)
    both, best = torch.cat([drawn, unseen]), torch.full((len(drawn) + len(unseen),), torch.inf, dtype=torch.float64)
    for rows in torch.arange(len(train)).split(MOST):
        best = torch.minimum(best, nearest(both, flat(train.subset(rows), train)))
    usual = best[len(drawn) :].median().item()
    copies = usual <= 1e-6 * unseen.double().std(0).norm().item()  # distances of copies are zero up to rounding
    return None if copies else best[: len(drawn)].median().item() / usual


Items = TypeVar("Items", Tensor, list[str])
Apart = Callable[[Items, Items], float | None]
"""Distance of two sets."""
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
    draws: Rng,
    *,
    roughly: Apart[Items] | None = None,
) -> Beside:
    """Measure samples beside real data, and so as many of the known data, a mean over several choices.

    The known are the training data, as many as the samples or more; None where `real` are these. `roughly` is a quicker
    distance that varies alike, for the many halves.
    """
    value = apart(samples, real)
    if known is None or value is None:
        return Beside(value)
    size, several = len(samples), FLOORS if len(known) > len(samples) else 1
    chosen = [apart(_some(known, size, draws.fold_in("floor", i)), real) for i in range(several)]
    floors = [one for one in chosen if one is not None]
    if not floors:
        return Beside(value)
    return Beside(value, statistics.fmean(floors), factor(_quotients(roughly or apart, samples, real, known, draws)))


def factor(quotients: Sequence[float]) -> float | None:
    """Return by which factor such quotients vary, two deviations of their logarithms; None of fewer than two."""
    logs = [log(one) for one in quotients if one > 0]
    return exp(DEVIATIONS * statistics.stdev(logs)) if len(logs) > 1 else None


def halves(sizes: Sequence[int], draws: Rng) -> Iterator[list[Int[Tensor, " half"]]]:
    """Yield random halves of several sets, again and again.

    The variance of a mean over a half that is chosen without replacement is, given the set, that of the mean over the
    set itself: so halves vary as other sets of the whole size would (delete-half jackknife).
    Source: Shao and Wu 1989, "A general theory for jackknife variance estimation", Annals of Statistics 17.
    """
    for i in range(HALVES):
        yield [_rows(n, max(n // 2, 1), draws.fold_in("half", i, k)) for k, n in enumerate(sizes)]


def _quotients(apart: Apart[Items], samples: Items, real: Items, known: Items, draws: Rng) -> list[float]:
    """Return how many times as far halves of the samples are as halves of real data."""
    found = []
    for rows in halves([len(samples), len(real), len(samples)], draws):
        some, others = _take(samples, rows[0]), _take(real, rows[1])
        value, floor = (
            apart(some, others),
            apart(_some(known, len(rows[2]), draws.fold_in("known", len(found))), others),
        )
        if value is not None and floor:
            found.append(value / floor)
    return found


def _rows(n: int, size: int, draws: Rng) -> Int[Tensor, " size"]:
    return torch.randperm(n, generator=draws.stream("rows").shared_generator())[:size]


def _some(items: Items, size: int, draws: Rng) -> Items:
    return items if size >= len(items) else _take(items, _rows(len(items), size, draws))


def _take(items: Items, rows: Int[Tensor, " k"]) -> Items:
    return cast(Items, items[rows] if isinstance(items, Tensor) else [items[i] for i in rows.tolist()])


def mean_energy(
    between: Float[Tensor, "n m"], within: Float[Tensor, "n n"], real: Float[Tensor, "m m"], size: int
) -> float:
    """Return the mean of 2 E d(X, Y) - E d(X, X') - E d(Y, Y') over all choices of `size` of n points, from distances.

    A point also meets itself, at no distance: of n points it is the energy distance itself. Distances are `between`
    points and real ones, `within` the points and among the `real` ones.
    """
    n = len(within)
    apart = within.sum().item() / max(n * (n - 1), 1) * (1 - 1 / size)
    return max(2 * between.mean().item() - apart - real.mean().item(), 0.0)
