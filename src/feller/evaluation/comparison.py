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

MAX_EXAMPLES = 10_000
"""Examples of each set that are compared; distances of all pairs are needed."""
QUERIES = 500
"""Examples whose nearest neighbour is looked for."""


@dataclass(frozen=True, eq=False)
class ComparedSets:
    """Sets cut so that a distance of the samples and its floor, the same distance of real data, have equal sizes."""

    samples: Dataset
    real: Dataset
    """What both are compared with: held-out data, or the training data where there are too few of those."""
    floor: Dataset | None
    """Training data, as many as samples; None where `real` are these already."""


def has_enough_held_out(held_out: Dataset) -> bool:
    """Tell whether so much is held out that what is measured of it is not chance."""
    return held_out.modality.count_units(held_out) >= held_out.modality.min_held_out


def reference_data(train: Dataset, held_out: Dataset) -> Dataset:
    """Return what samples are set beside: held-out data, or the training data where too few are held out."""
    return held_out if has_enough_held_out(held_out) else train


def with_floors(
    values: Mapping[str, float | None], floors: Mapping[str, float | None] | None
) -> dict[str, float | str | None]:
    """Return numbers, each followed by its floor; None where there is none."""
    pairs = {name: (value, None if floors is None else floors[name]) for name, value in values.items()}
    return {f"{name}{end}": one for name, both in pairs.items() for end, one in zip(("", "_floor"), both, strict=True)}


def subsample(dataset: Dataset, max_examples: int, rng: Rng, purpose: str = "pick") -> Dataset:
    """Return at most so many examples, chosen at random; `purpose` is the address of the draw."""
    if len(dataset) <= max_examples:
        return dataset
    return dataset.subset(torch.randperm(len(dataset), generator=rng.stream(purpose).shared_generator())[:max_examples])


def num_compared(samples: Dataset, train: Dataset, held_out: Dataset) -> int:
    """Return how many samples are compared: all, but no more than there are training data for the floor."""
    return min(len(samples), MAX_EXAMPLES, len(train) if has_enough_held_out(held_out) else MAX_EXAMPLES)


def compare_sets(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> ComparedSets:
    """Choose at random where there are too many."""
    size = num_compared(samples, train, held_out)
    drawn = subsample(samples, size, rng.fold_in("samples"))
    real = subsample(reference_data(train, held_out), MAX_EXAMPLES, rng.fold_in("real"))
    return ComparedSets(
        drawn, real, subsample(train, size, rng.fold_in("floor")) if has_enough_held_out(held_out) else None
    )


def flat_states(dataset: Dataset, like: Dataset) -> Float[Tensor, "n d"]:
    """Return the states of examples as vectors, in the units of a data set's modality."""
    return like.modality.encode(dataset.values).float().flatten(1)


def nearest_ratio(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> float | None:
    """Divide the median distance to the nearest training example of samples by that of held-out data.

    None if too few are held out, or if most of them are copies of training data.
    """
    if not has_enough_held_out(held_out):
        return None
    drawn = flat_states(subsample(samples, QUERIES, rng.fold_in("samples")), train)
    held_out_states = flat_states(subsample(held_out, QUERIES, rng.fold_in("held out")), train)
    both, best = (
        torch.cat([drawn, held_out_states]),
        torch.full((len(drawn) + len(held_out_states),), torch.inf, dtype=torch.float64),
    )
    for rows in torch.arange(len(train)).split(MAX_EXAMPLES):
        best = torch.minimum(best, nearest(both, flat_states(train.subset(rows), train)))
    usual = best[len(drawn) :].median().item()
    copies = (
        usual <= 1e-6 * held_out_states.double().std(0).norm().item()
    )  # distances of copies are zero up to rounding
    return None if copies else best[: len(drawn)].median().item() / usual


Items = TypeVar("Items", Tensor, list[str])
SetDistance = Callable[[Items, Items], float | None]
"""Distance of two sets."""
FLOORS, HALVES = 8, 24
"""Choices of real data over which a floor is a mean, and random halves from which the factor is found."""
DEVIATIONS = 2.0


@dataclass(frozen=True)
class ReferenceDistance:
    """A distance of samples, the mean one of as many real data, and what chance may do to their quotient."""

    value: float | None
    floor: float | None = None
    factor: float | None = None


def reference_distance(
    distance: SetDistance[Items],
    samples: Items,
    real: Items,
    training: Items | None,
    rng: Rng,
    *,
    fast_distance: SetDistance[Items] | None = None,
) -> ReferenceDistance:
    """Measure samples beside real data, and so as many of the known data, a mean over several choices.

    The known are the training data, as many as the samples or more; None where `real` are these. `fast_distance` is a
    quicker distance that varies alike, for the many halves.
    """
    value = distance(samples, real)
    if training is None or value is None:
        return ReferenceDistance(value)
    size, several = len(samples), FLOORS if len(training) > len(samples) else 1
    chosen = [distance(_subsample_items(training, size, rng.fold_in("floor", i)), real) for i in range(several)]
    floors = [one for one in chosen if one is not None]
    if not floors:
        return ReferenceDistance(value)
    return ReferenceDistance(
        value,
        statistics.fmean(floors),
        factor(_half_quotients(fast_distance or distance, samples, real, training, rng)),
    )


def factor(quotients: Sequence[float]) -> float | None:
    """Return by which factor such quotients vary, two deviations of their logarithms; None of fewer than two."""
    logs = [log(one) for one in quotients if one > 0]
    return exp(DEVIATIONS * statistics.stdev(logs)) if len(logs) > 1 else None


def random_halves(sizes: Sequence[int], rng: Rng) -> Iterator[list[Int[Tensor, " half"]]]:
    """Yield random halves of several sets, again and again.

    The variance of a mean over a half that is chosen without replacement is, given the set, that of the mean over the
    set itself: so halves vary as other sets of the whole size would (delete-half jackknife).
    Source: Shao and Wu 1989, "A general theory for jackknife variance estimation", Annals of Statistics 17.
    """
    for i in range(HALVES):
        yield [_rows(n, max(n // 2, 1), rng.fold_in("half", i, k)) for k, n in enumerate(sizes)]


def _half_quotients(
    distance: SetDistance[Items], samples: Items, real: Items, training: Items, rng: Rng
) -> list[float]:
    """Return how many times as far halves of the samples are as halves of real data."""
    found = []
    for rows in random_halves([len(samples), len(real), len(samples)], rng):
        some, others = _take(samples, rows[0]), _take(real, rows[1])
        value, floor = (
            distance(some, others),
            distance(_subsample_items(training, len(rows[2]), rng.fold_in("known", len(found))), others),
        )
        if value is not None and floor:
            found.append(value / floor)
    return found


def _rows(n: int, size: int, rng: Rng) -> Int[Tensor, " size"]:
    return torch.randperm(n, generator=rng.stream("rows").shared_generator())[:size]


def _subsample_items(items: Items, size: int, rng: Rng) -> Items:
    return items if size >= len(items) else _take(items, _rows(len(items), size, rng))


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
