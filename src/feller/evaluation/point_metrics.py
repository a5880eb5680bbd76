"""Metrics of samples that are points in Euclidean space or on a manifold."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.evaluation.comparison import (
    MAX_EXAMPLES,
    QUERIES,
    ReferenceDistance,
    compare_sets,
    factor,
    flat_states,
    has_enough_held_out,
    mean_energy,
    nearest_ratio,
    random_halves,
    reference_distance,
    subsample,
)
from feller.evaluation.density_baselines import baseline_nll, manifold_points
from feller.evaluation.two_sample import energy_distance, random_projection, wasserstein_of_projections
from feller.spaces import Manifold, Product, as_manifold

FAST_DIRECTIONS = 16
"""Number of directions of the sliced Wasserstein distance when its sampling error is estimated."""


def points_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute distances of samples from held-out points, in units of the training standard deviation of each column.

    Each distance has a floor: the same distance of training points from held-out points, the best value to expect.
    Floors are None if too few examples are held out; the samples are then compared with the training data. Labels are
    ignored.
    """
    sets = compare_sets(samples, train, held_out, rng)
    real, states = flat_states(sets.real, train), flat_states(sets.samples, train)
    floor = None if sets.floor is None else flat_states(sets.floor, train)
    training = None if sets.floor is None else flat_states(subsample(train, MAX_EXAMPLES, rng.fold_in("known")), train)
    project = random_projection(states.shape[1], rng)
    sliced = reference_distance(
        wasserstein_of_projections,
        project(states),
        project(real),
        None if training is None else project(training),
        rng.fold_in("chance"),
        fast_distance=lambda a, b: wasserstein_of_projections(a[:, :FAST_DIRECTIONS], b[:, :FAST_DIRECTIONS]),
    )
    return {
        "sliced_w": sliced.value,
        "sliced_w_floor": sliced.floor,
        "chance_factor": sliced.factor,
        "energy": energy_distance(states, real),
        "energy_floor": None if floor is None else energy_distance(floor, real),
        "nearest_ratio": nearest_ratio(samples, train, held_out, rng),
    }


MAX_POINTS = 2_000
"""Maximum number of points per set, since all pairwise distances are computed."""
CHUNK = 2**20
"""Number of pairs of points per chunk."""


def geodesic_distances(
    space: Manifold | Product, a: Float[Tensor, " n *point"], b: Float[Tensor, " m *point"]
) -> Float[Tensor, "n m"]:
    """Return the geodesic distances between all points of a and b."""
    rows = []
    for chunk in a.split(max(1, CHUNK // len(b))):
        left = chunk[:, None].expand(len(chunk), *b.shape).reshape(-1, *b.shape[1:])
        right = b.expand(len(chunk), *b.shape).reshape(-1, *b.shape[1:])
        rows.append(space.distance(left, right).reshape(len(chunk), len(b)))
    return torch.cat(rows)


def geodesic_energy(space: Manifold | Product, a: Float[Tensor, " n *point"], b: Float[Tensor, " m *point"]) -> float:
    """Return the energy distance 2 E d(X, Y) - E d(X, X') - E d(Y, Y') with geodesic distance d, clamped at zero.

    The energy distance is zero for equal sets. In spaces of negative curvature it is positive for unequal sets. On the
    sphere it is also zero for antipodally symmetric sets. On a torus it can be zero for unequal sets, but not if both
    lie in a small region.

    Source: Székely and Rizzo 2013, "Energy statistics"; Lyons 2013, "Distance covariance in metric spaces".

    Raises:
        ValueError: If a set is empty.
    """
    if not len(a) or not len(b):
        raise ValueError(f"expected at least one point in each set, got {len(a)} and {len(b)}")
    between, within_a, within_b = (geodesic_distances(space, *pair).mean().item() for pair in ((a, b), (a, a), (b, b)))
    return max(2 * between - within_a - within_b, 0.0)


def geometric_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute metrics of samples on a manifold, such as their geodesic energy distance from held-out points.

    The energy distance has a floor: the same distance of training points from held-out points, the best value to
    expect. The floor is None if too few examples are held out; the samples are then compared with the training data.
    Labels are ignored.
    """
    space = as_manifold(train.modality.space())
    sets = compare_sets(samples, train, held_out, rng)
    points, real = _subsample_points(sets.samples, rng, "samples"), _subsample_points(sets.real, rng, "real")
    training = None if sets.floor is None else _subsample_points(train, rng, "floor")
    energy = reference_energy(space, points, real, training, rng)
    return {
        "energy_geodesic": energy.value,
        "energy_geodesic_floor": energy.floor,
        "chance_factor": energy.factor,
        "nearest_ratio": _nearest_ratio(samples, train, held_out, rng),
        "nll_baseline": baseline_nll(train, held_out, rng.fold_in("baseline")),
    }


def reference_energy(
    space: Manifold | Product, samples: Tensor, real: Tensor, training: Tensor | None, rng: Rng
) -> ReferenceDistance:
    """Return the geodesic energy distance of samples from real points, its floor and its sampling error.

    The floor is the energy distance of `training` from `real`; it is None if `training` is None.
    """
    if training is None:
        return ReferenceDistance(geodesic_energy(space, samples, real))
    d_real = geodesic_distances(space, real, real)
    d_samples, d_train = (
        (geodesic_distances(space, x, real), geodesic_distances(space, x, x)) for x in (samples, training)
    )
    size = min(len(samples), len(training))
    quotients = []
    for rows in random_halves([len(samples), len(real), len(training)], rng):
        real_half = d_real[rows[1]][:, rows[1]]
        half_size = min(len(rows[0]), len(rows[2]))
        value, floor = (
            mean_energy(between[indices][:, rows[1]], within[indices][:, indices], real_half, half_size)
            for (between, within), indices in ((d_samples, rows[0]), (d_train, rows[2]))
        )
        if floor > 0:
            quotients.append(value / floor)
    return ReferenceDistance(
        mean_energy(*d_samples, d_real, size), mean_energy(*d_train, d_real, size), factor(quotients)
    )


def _subsample_points(dataset: Dataset, rng: Rng, name: str) -> Float64[Tensor, " n *point"]:
    return manifold_points(subsample(dataset, MAX_POINTS, rng.fold_in("some", name)))


def _nearest_ratio(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> float | None:
    """Return the median geodesic distance of samples to the nearest training example, divided by that of held-out data.

    None if too few are held out, or if most held-out examples are copies of training examples.
    """
    if not has_enough_held_out(held_out):
        return None
    space, training = as_manifold(train.modality.space()), manifold_points(train)
    distances = [
        geodesic_distances(space, manifold_points(subsample(data, QUERIES, rng.fold_in(name))), training)
        .amin(1)
        .median()
        .item()
        for name, data in (("samples", samples), ("held out", held_out))
    ]
    scale = geodesic_distances(space, training[:1], training).mean().item()
    is_copied = distances[1] <= 1e-6 * scale  # distances of copies are zero up to rounding
    return None if is_copied else distances[0] / distances[1]
