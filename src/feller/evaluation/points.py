"""How close points are to real ones."""

from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.evaluation.chance import beside
from feller.evaluation.comparison import MOST, compare, flat, nearest_ratio, pick
from feller.evaluation.two_sample import energy_distance, sliced_wasserstein

EXPLAIN = {
    "sliced_w": "How far points must be moved, on average, to turn samples into real data, seen along random directions"
    " (sliced Wasserstein distance, in standard deviations): lower is better, sliced_w_floor is as good as real.",
    "sliced_w_floor": "The same distance between as many real points, from the training data, and the held-out ones: a"
    " mean over some choices of these.",
    "energy": "Another distance between samples and real points, sensitive to every difference (energy distance, in"
    " standard deviations): lower is better, energy_floor is as good as real.",
    "energy_floor": "The same distance between as many real points, from the training data, and the held-out ones.",
}
"""What the numbers mean, for people."""
ROUGHLY = 16
"""Directions, where many sets are measured only to see how much they vary."""


def points_quality(samples: Dataset, train: Dataset, held_out: Dataset, draws: Draws) -> dict[str, float | str | None]:
    """Compare points with held-out ones, each column in units of its deviation in the training data.

    Labels are left aside. Floors are None where too few examples are held out; the samples are then compared with the
    training data.
    """
    sets = compare(samples, train, held_out, draws)
    real, drawn = flat(sets.real, train), flat(sets.samples, train)
    floor = None if sets.floor is None else flat(sets.floor, train)
    known = None if sets.floor is None else flat(pick(train, MOST, draws.named("known")), train)
    sliced = beside(
        lambda a, b: sliced_wasserstein(a, b, draws),
        drawn,
        real,
        known,
        draws.named("chance"),
        roughly=lambda a, b: sliced_wasserstein(a, b, draws, ROUGHLY),
    )
    return {
        "sliced_w": sliced.value,
        "sliced_w_floor": sliced.floor,
        "chance_factor": sliced.factor,
        "energy": energy_distance(drawn, real),
        "energy_floor": None if floor is None else energy_distance(floor, real),
        "nearest_ratio": nearest_ratio(samples, train, held_out, draws),
    }
