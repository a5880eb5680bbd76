"""Two-sample distances: sliced and exact Wasserstein, energy and Fréchet distance, Sinkhorn divergence."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.training.couplings.ground_cost import SquaredDistance
from feller.training.couplings.minibatch_ot import linear_assignment

CHUNK = 2**22
"""Number of float64 values per chunk, 32 MiB."""
DIRECTIONS = 128
"""Default number of random directions of the sliced Wasserstein distance."""


def sliced_wasserstein(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], rng: Rng, directions: int = DIRECTIONS
) -> float:
    """Return the sliced Wasserstein-1 distance: the distance of projections, averaged over random directions.

    The distance along each direction is exact also for n != m: it is the area between the quantile functions. The
    result is in the units of the data and, given enough directions, zero only for equal sets.

    Args:
        a: First set of points.
        b: Second set of points.
        rng: Random stream of the directions, which do not depend on the sets.
        directions: Number of directions; the standard error decreases as 1 / sqrt(directions).

    Raises:
        ValueError: If a set is empty.
    """
    _check(a, b)
    project = random_projection(a.shape[1], rng, directions)
    return wasserstein_of_projections(project(a), project(b))


def random_projection(
    d: int, rng: Rng, directions: int = DIRECTIONS
) -> Callable[[Float[Tensor, "n d"]], Float64[Tensor, "n k"]]:
    """Return the projection of points in d dimensions onto random directions."""
    units = rng.stream("directions").normal((directions, d), torch.float64)
    units = units / units.norm(dim=1, keepdim=True)
    return lambda points: points.double() @ units.to(points.device).T


def wasserstein_of_projections(a: Float64[Tensor, "n k"], b: Float64[Tensor, "m k"]) -> float:
    """Return the Wasserstein-1 distance of the projections of two sets onto k directions, averaged over directions."""
    interval_lengths, in_a, in_b = _quantiles(len(a), len(b), a.device)
    total, size = 0.0, max(1, CHUNK // (len(a) + len(b)))
    for first, second in zip(a.T.split(size), b.T.split(size), strict=True):
        difference = _sorted(first)[:, in_a] - _sorted(second)[:, in_b]
        total += (difference.abs() @ interval_lengths).sum().item()
    return total / a.shape[1]


def _sorted(values: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    # on the CPU, np.sort takes a tenth of the time of torch.sort, which also returns indices
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.detach().numpy(), axis=1))
    return values.sort(1).values


def _quantiles(
    n: int, m: int, device: torch.device
) -> tuple[Float[Tensor, " k"], Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Divide (0, 1] into intervals on which the quantile functions of n and of m sorted points are both constant.

    Return the lengths of the intervals, and the index of the point of either set on each interval.
    """
    jumps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # multiples of 1 / (n m)
    lengths = torch.diff(jumps, prepend=jumps.new_zeros(1)).double() / (n * m)
    return lengths.to(device), ((jumps - 1) // m).to(device), ((jumps - 1) // n).to(device)


def energy_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Return the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of two sets, in the units of the data.

    The estimate is a V-statistic (pairs of a point with itself are included), so it is nonnegative, and zero only for
    equal sets. For two samples of the same distribution its mean is E|X - X'| (1/n + 1/m): compare sets of equal size.

    Source: Székely and Rizzo 2013, "Energy statistics", J. Stat. Plan. Inference 143.

    Raises:
        ValueError: If a set is empty.
    """
    _check(a, b)
    centre = a.double().mean(0)  # cdist uses a matrix product, which loses digits far from the origin
    a, b = a.double() - centre, b.double() - centre
    return max(2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b), 0.0)


def _mean_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    chunks = a.split(max(1, CHUNK // len(b)))
    return sum(torch.cdist(chunk, b).sum().item() for chunk in chunks) / (len(a) * len(b))


def frechet(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """Return the Fréchet distance: the squared Wasserstein-2 distance between normal distributions fitted to two sets.

    The distance is also defined for fewer points than features. It is larger for smaller sets: compare sets of equal
    size.

    Raises:
        ValueError: If a set has fewer than two points, or the sets have different numbers of features.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"expected at least two points in each set, got {len(a)} and {len(b)}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"expected sets with the same features, got {a.shape[1]} and {b.shape[1]}")
    a, b = a.double(), b.double()
    return frechet_normal(a.mean(0), torch.atleast_2d(a.T.cov()), b.mean(0), torch.atleast_2d(b.T.cov()))


def frechet_of_few(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """Return the Fréchet distance of two sets with fewer points than features; the same value as `frechet`, faster.

    The nuclear norm of A^1/2 B^1/2 is that of the n x m matrix of inner products of the centred points, divided by
    sqrt((n - 1) (m - 1)), because A^1/2 and the centred points have the same singular values and right vectors.
    """
    a, b = a.double(), b.double()
    x, y = (points - points.mean(0) for points in (a, b))
    scale = ((len(a) - 1) * (len(b) - 1)) ** 0.5
    cross_trace = torch.linalg.svdvals(x @ y.T).sum() / scale
    traces = x.square().sum() / (len(a) - 1) + y.square().sum() / (len(b) - 1)
    return max(((a.mean(0) - b.mean(0)).square().sum() + traces - 2 * cross_trace).item(), 0.0)


def frechet_normal(
    mean_a: Float[Tensor, " f"], cov_a: Float[Tensor, "f f"], mean_b: Float[Tensor, " f"], cov_b: Float[Tensor, "f f"]
) -> float:
    """Return the Fréchet distance between two normal distributions, from their means and covariances A and B.

    It is |mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2). The trace of (A^1/2 B A^1/2)^1/2 is computed as the
    sum of the singular values of A^1/2 B^1/2, so a singular covariance needs no regularization.

    Source: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions".
    """
    cross_trace = torch.linalg.svdvals(_root(cov_a) @ _root(cov_b)).sum()
    total = (mean_a - mean_b).double().square().sum() + cov_a.double().trace() + cov_b.double().trace()
    return max((total - 2 * cross_trace).item(), 0.0)


def _root(matrix: Float[Tensor, "f f"]) -> Float[Tensor, "f f"]:
    """Return the symmetric square root of a covariance, with eigenvalues at rounding level set to zero."""
    eigenvalues, eigenvectors = torch.linalg.eigh(matrix.double())
    rounding = eigenvalues.abs().max() * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
    return (eigenvectors * torch.where(eigenvalues > rounding, eigenvalues, 0).sqrt()) @ eigenvectors.T


def nearest(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, " n"]:
    """Return the distance from each point of `a` to its nearest neighbour in `b`; ValueError if a set is empty."""
    _check(a, b)
    centre = a.double().mean(0)
    a, distances = a.double() - centre, torch.full((len(a),), torch.inf, dtype=torch.float64, device=a.device)
    for chunk in b.split(max(1, CHUNK // max(len(a), a.shape[1]))):
        distances = torch.minimum(distances, torch.cdist(a, chunk.double() - centre).amin(1))
    return distances


def _check(a: Tensor, b: Tensor, *, finite: bool = False) -> None:
    if not len(a) or not len(b):
        raise ValueError(f"expected at least one point in each set, got {len(a)} and {len(b)}")
    if finite and not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("expected finite points, got inf or NaN; drop them first")


def wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], order: int = 2) -> float:
    """Return the exact Wasserstein distance of the given order between two sets, in the units of the data.

    Sets of equal size are matched by linear assignment, other sets by the linear program of the package POT. The time
    is O(n^3): about a second for 1,000 points.

    Raises:
        ValueError: If a set is empty or has non-finite values, or if `order` is below 1.
        UsageError: If the sets differ in size and POT is not installed.
    """
    _check(a, b, finite=True)
    if order < 1:
        raise ValueError(f"expected an order of 1 or more, got {order}")
    cost = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist").pow(order)
    if len(a) != len(b):
        return _program(cost) ** (1 / order)
    columns = torch.arange(len(b), device=cost.device)
    return cost[linear_assignment(cost), columns].mean().item() ** (1 / order)


def _program(cost: Float64[Tensor, "n m"]) -> float:
    """Return the least mean cost of a transport plan between uniform weights, by linear programming."""
    try:
        import ot
    except ImportError as error:
        raise UsageError(
            f"exact transport between {cost.shape[0]:,} and {cost.shape[1]:,} points needs POT: pip install"
            " 'feller[bridges]', or use sets of equal size"
        ) from error
    return float(ot.emd2([], [], cost.cpu().numpy(), numItermax=10_000_000))  # pyrefly: ignore[bad-argument-type]


STEPS, ROUNDS = 20, 10
"""Number of Sinkhorn steps per evaluation of the kernel, and maximum number of evaluations at the final blur."""
TOLERANCE = 1e-2
"""Convergence threshold on the mean change of a dual potential over STEPS steps, in units of the squared blur."""


def sinkhorn_divergence(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], *, blur: float = 0.05, scaling: float = 0.95
) -> float:
    """Return the Sinkhorn divergence OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2, in squared units of the data.

    OT minimizes <P, |x - y|^2 / 2> + blur^2 KL(P | a b) with uniform weights. The divergence is zero for equal sets,
    and about half the squared Wasserstein-2 distance if this distance is far above the blur. The result is too small if
    distant clusters differ in mass, since the iterations stop before convergence; `wasserstein` is exact.

    Args:
        a: First set of points.
        b: Second set of points.
        blur: Square root of the entropic regularization, in units of the data.
        scaling: Factor by which the annealed blur, which starts at the diameter of the data, is multiplied per step.

    Raises:
        ValueError: If a set is empty or has non-finite values, or if `blur` or `scaling` is out of range.
    """
    _check(a, b, finite=True)
    if not blur > 0 or not 0 < scaling < 1:
        raise ValueError(f"expected a blur above 0 and a scaling between 0 and 1, got {blur:g} and {scaling:g}")
    centre = a.double().mean(0)
    a, b = a.double() - centre, b.double() - centre
    f, g = _potentials(_cost(a, b), blur, scaling)
    zero = torch.zeros_like
    f_aa, _ = _converge_potentials(
        _cost(a, a), zero(f), zero(f), blur**2
    )  # a self-transport problem needs no annealing
    g_bb, _ = _converge_potentials(_cost(b, b), zero(g), zero(g), blur**2)
    return (f - f_aa).mean().item() + (g - g_bb).mean().item()


def _cost(a: Float64[Tensor, "n d"], b: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    return SquaredDistance()(a, b, {}).clamp_(min=0).div_(2)


def _potentials(
    cost: Float64[Tensor, "n m"], blur: float, scaling: float
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """Return the dual potentials of entropic optimal transport with the blur `blur`.

    The blur starts at the largest distance and is multiplied by `scaling` at each step.
    """
    max_blur = max(math.sqrt(2 * cost.max().item()), blur)
    f, g = _soft_minimum(cost, max_blur**2), _soft_minimum(cost.T, max_blur**2)
    for i in range(math.ceil(math.log(max_blur / blur) / -math.log(scaling))):
        f, g = _half_steps(cost, f, g, (max_blur * scaling**i) ** 2, 1)
    return _converge_potentials(cost, f, g, blur**2)


def _converge_potentials(
    cost: Float64[Tensor, "n m"], f: Float64[Tensor, " n"], g: Float64[Tensor, " m"], epsilon: float
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """Iterate the dual potentials f and g at a fixed blur sqrt(epsilon) until they converge, at most `ROUNDS` times."""
    for _ in range(ROUNDS):
        previous = f, g
        f, g = _half_steps(cost, f, g, epsilon, STEPS)
        if max((f - previous[0]).abs().mean().item(), (g - previous[1]).abs().mean().item()) <= TOLERANCE * epsilon:
            break
    return _soft_minimum(cost - g, epsilon), _soft_minimum(cost.T - f, epsilon)


def _half_steps(
    cost: Float64[Tensor, "n m"], f: Float64[Tensor, " n"], g: Float64[Tensor, " m"], epsilon: float, steps: int
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """Apply averaged Sinkhorn updates to both potentials.

    All steps share one kernel matrix; if it underflows, one step in the log domain is made instead.
    """
    plan = (f[:, None] + g).sub_(cost).div_(epsilon).exp_()
    u, v = torch.ones_like(f), torch.ones_like(g)
    for _ in range(steps):
        rows, columns = plan @ v / len(v), u @ plan / len(u)
        u, v = (u / rows).sqrt(), (v / columns).sqrt()
    updated = f + epsilon * u.log(), g + epsilon * v.log()
    if updated[0].isfinite().all() and updated[1].isfinite().all():
        return updated
    return (f + _soft_minimum(cost - g, epsilon)) / 2, (g + _soft_minimum(cost.T - f, epsilon)) / 2


def _soft_minimum(cost: Float64[Tensor, "n m"], epsilon: float) -> Float64[Tensor, " n"]:
    """Return -epsilon log mean exp(-cost / epsilon) per row."""
    return epsilon * (math.log(cost.shape[1]) - torch.logsumexp(-cost / epsilon, 1))
