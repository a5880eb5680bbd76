"""Comparison of samples with real data in sets of equal size: distances, their floors and their sampling errors.

The floor of a distance is the same distance between two sets of real data, the best value that samples can be expected
to reach.
"""

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
"""Maximum size of each compared set, since all pairwise distances are computed."""
QUERIES = 500
"""Maximum number of examples for which the nearest training example is searched."""


@dataclass(frozen=True, eq=False)
class ComparedSets:
    """Subsets of the data from which the distance of samples from real data, and its floor, are computed."""

    samples: Dataset
    real: Dataset
    """Reference set: held-out data, or training data if too few examples are held out."""
    floor: Dataset | None
    """As many training examples as `samples`, whose distance from `real` is the floor; None if `real` is training
    data."""


def has_enough_held_out(held_out: Dataset) -> bool:
    """Return True if the held-out set has at least the minimum size for metrics of its modality."""
    return held_out.modality.count_units(held_out) >= held_out.modality.min_held_out


def reference_data(train: Dataset, held_out: Dataset) -> Dataset:
    """Return the held-out data, or the training data if too few examples are held out."""
    return held_out if has_enough_held_out(held_out) else train


def with_floors(
    values: Mapping[str, float | None], floors: Mapping[str, float | None] | None
) -> dict[str, float | str | None]:
    """Return metrics `values`, each followed by its floor (its value for real data) under the key `{name}_floor`.

    All floors are None if `floors` is None.
    """
    pairs = {name: (value, None if floors is None else floors[name]) for name, value in values.items()}
    return {f"{name}{end}": x for name, pair in pairs.items() for end, x in zip(("", "_floor"), pair, strict=True)}


def subsample(dataset: Dataset, max_examples: int, rng: Rng, purpose: str = "pick") -> Dataset:
    """Return a random subset of at most `max_examples` examples; `purpose` names the random stream."""
    if len(dataset) <= max_examples:
        return dataset
    return dataset.subset(torch.randperm(len(dataset), generator=rng.stream(purpose).shared_generator())[:max_examples])


def num_compared(samples: Dataset, train: Dataset, held_out: Dataset) -> int:
    """Return the number of samples to compare, at most MAX_EXAMPLES.

    If enough data are held out to compare training data with them, it is also at most the size of the training set.
    """
    return min(len(samples), MAX_EXAMPLES, len(train) if has_enough_held_out(held_out) else MAX_EXAMPLES)


def compare_sets(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> ComparedSets:
    """Draw random subsets of the samples and of the real data, small enough to compute the distance between them.

    If enough data are held out, also draw a subset of the training data. The distance of the training data to the
    held-out data is the floor: the distance that perfect samples would have.
    """
    size = num_compared(samples, train, held_out)
    subset = subsample(samples, size, rng.fold_in("samples"))
    real = subsample(reference_data(train, held_out), MAX_EXAMPLES, rng.fold_in("real"))
    return ComparedSets(
        subset, real, subsample(train, size, rng.fold_in("floor")) if has_enough_held_out(held_out) else None
    )


def flat_states(dataset: Dataset, like: Dataset) -> Float[Tensor, "n d"]:
    """Return the encoded states of examples as vectors, encoded by the modality of the dataset `like`."""
    return like.modality.encode(dataset.values).float().flatten(1)


def nearest_ratio(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> float | None:
    """Return the median distance from a sample to its nearest training example, relative to held-out examples.

    It is divided by the same median for held-out examples, so values well below 1 indicate copies.

    Return None if too few examples are held out, or if most held-out examples are copies of training examples.
    """
    if not has_enough_held_out(held_out):
        return None
    sample_states = flat_states(subsample(samples, QUERIES, rng.fold_in("samples")), train)
    held_out_states = flat_states(subsample(held_out, QUERIES, rng.fold_in("held out")), train)
    queries, distances = (
        torch.cat([sample_states, held_out_states]),
        torch.full((len(sample_states) + len(held_out_states),), torch.inf, dtype=torch.float64),
    )
    for rows in torch.arange(len(train)).split(MAX_EXAMPLES):
        distances = torch.minimum(distances, nearest(queries, flat_states(train.subset(rows), train)))
    reference = distances[len(sample_states) :].median().item()
    is_copied = (
        reference <= 1e-6 * held_out_states.double().std(0).norm().item()
    )  # distances of copies are zero up to rounding
    return None if is_copied else distances[: len(sample_states)].median().item() / reference


Items = TypeVar("Items", Tensor, list[str])
SetDistance = Callable[[Items, Items], float | None]
"""Function that returns the distance of a first set, such as samples, from a second set; None if it is undefined."""
FLOORS, HALVES = 8, 24
"""Number of training subsets over which the floor is averaged; number of random halves for the sampling error."""
DEVIATIONS = 2.0


@dataclass(frozen=True)
class ReferenceDistance:
    """Distance of samples from real data, its floor, and the sampling error of the ratio of the two.

    The floor is the same distance of training data from the real data.
    """

    value: float | None
    floor: float | None = None
    """Mean distance of training subsets, as large as the set of samples, from the real data."""
    factor: float | None = None
    """Error bar of the ratio of distance to floor, as a factor: exp(two standard deviations of the log ratio)."""


def reference_distance(
    distance: SetDistance[Items],
    samples: Items,
    real: Items,
    training: Items | None,
    rng: Rng,
    *,
    fast_distance: SetDistance[Items] | None = None,
) -> ReferenceDistance:
    """Compute a distance of samples from real data, its floor, and the sampling error of the ratio of the two.

    The floor is the mean distance from `real` of random training subsets that are as large as the set of samples.

    Args:
        distance: Function that computes the distance between two sets.
        samples: Samples of the model.
        real: Real data with which the samples are compared.
        training: Training data for the floor; None if `real` is the training set, so that there is no floor.
        rng: Random streams for the subsets.
        fast_distance: Faster function that replaces `distance` in the estimate of the sampling error.
    """
    value = distance(samples, real)
    if training is None or value is None:
        return ReferenceDistance(value)
    size, num_floors = len(samples), FLOORS if len(training) > len(samples) else 1
    distances = [distance(_subsample_items(training, size, rng.fold_in("floor", i)), real) for i in range(num_floors)]
    floors = [floor for floor in distances if floor is not None]
    if not floors:
        return ReferenceDistance(value)
    return ReferenceDistance(
        value,
        statistics.fmean(floors),
        factor(_half_quotients(fast_distance or distance, samples, real, training, rng)),
    )


def factor(quotients: Sequence[float]) -> float | None:
    """Return the error bar of a ratio, as a factor: exp(two standard deviations of the logs of `quotients`).

    `quotients` are estimates of the ratio from random subsets; None is returned if fewer than two are positive.
    """
    logs = [log(quotient) for quotient in quotients if quotient > 0]
    return exp(DEVIATIONS * statistics.stdev(logs)) if len(logs) > 1 else None


def random_halves(sizes: Sequence[int], rng: Rng) -> Iterator[list[Int[Tensor, " half"]]]:
    """Yield lists with the indices of a random half of each set (delete-half jackknife); `sizes` are the set sizes.

    For a fixed set, the mean over a half drawn without replacement has the same variance as the mean over a new set of
    full size.
    Source: Shao and Wu 1989, "A general theory for jackknife variance estimation", Annals of Statistics 17.
    """
    for i in range(HALVES):
        yield [_rows(n, max(n // 2, 1), rng.fold_in("half", i, k)) for k, n in enumerate(sizes)]


def _half_quotients(
    distance: SetDistance[Items], samples: Items, real: Items, training: Items, rng: Rng
) -> list[float]:
    """Return the ratio of distance to floor for several random halves of samples and real data.

    The floor is the distance of as many training examples from the real half.
    """
    quotients = []
    for rows in random_halves([len(samples), len(real), len(samples)], rng):
        sample_half, real_half = _take(samples, rows[0]), _take(real, rows[1])
        value, floor = (
            distance(sample_half, real_half),
            distance(_subsample_items(training, len(rows[2]), rng.fold_in("known", len(quotients))), real_half),
        )
        if value is not None and floor:
            quotients.append(value / floor)
    return quotients


def _rows(n: int, size: int, rng: Rng) -> Int[Tensor, " size"]:
    return torch.randperm(n, generator=rng.stream("rows").shared_generator())[:size]


def _subsample_items(items: Items, size: int, rng: Rng) -> Items:
    return items if size >= len(items) else _take(items, _rows(len(items), size, rng))


def _take(items: Items, rows: Int[Tensor, " k"]) -> Items:
    return cast(Items, items[rows] if isinstance(items, Tensor) else [items[i] for i in rows.tolist()])


def mean_energy(
    between: Float[Tensor, "n m"], within: Float[Tensor, "n n"], real: Float[Tensor, "m m"], size: int
) -> float:
    """Return the energy distance 2 E d(X, Y) - E d(X, X') - E d(Y, Y') of subsets of n points X from m real points Y.

    It is averaged over all subsets with `size` of the n points; all real points are used.

    Pairs of a point with itself are included (V-statistic), so for size = n the result is the energy distance of the
    whole set.
    """
    n = len(within)
    mean_within = within.sum().item() / max(n * (n - 1), 1) * (1 - 1 / size)
    return max(2 * between.mean().item() - mean_within - real.mean().item(), 0.0)
