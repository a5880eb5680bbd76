"""Two-sample distances: sliced and exact Wasserstein, energy, Fréchet, Sinkhorn divergence."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.training.couplings.ground_cost import SquaredDistance
from feller.training.couplings.minibatch_ot import linear_assignment

CHUNK = 2**22
"""Numbers that are held at once, about: 32 MiB."""


def sliced_wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], rng: Rng, directions: int = 128) -> float:
    """Return the mean over random directions of the Wasserstein distance of order 1 between the projections.

    Along each direction it is exact, also where n and m differ: the area between the two quantile functions. Zero
    only for equal sets (with enough directions), and in the units of the data.

    Args:
        a: One set.
        b: The other.
        rng: Source of the directions, which do not depend on the sets.
        directions: How many; the error of their mean falls with its root.

    Raises:
        ValueError: If a set is empty.
    """
    _check(a, b)
    a, b = a.double(), b.double()
    projections = rng.stream("directions").normal((directions, a.shape[1]), torch.float64, a.device)
    projections = projections / projections.norm(dim=1, keepdim=True)
    interval_lengths, in_a, in_b = _quantiles(len(a), len(b), a.device)
    total = 0.0
    for part in projections.split(max(1, CHUNK // (len(a) + len(b)))):
        gap = _sorted(part @ a.T)[:, in_a] - _sorted(part @ b.T)[:, in_b]
        total += (gap.abs() @ interval_lengths).sum().item()
    return total / directions


def _sorted(values: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """Sort each row; on a processor by numpy, which takes a tenth of the time, as it keeps no places."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.detach().numpy(), axis=1))
    return values.sort(1).values


def _quantiles(
    n: int, m: int, device: torch.device
) -> tuple[Float[Tensor, " k"], Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Cut (0, 1] where the quantile function of n or of m points jumps: lengths, and which point holds in each part."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # whole numbers, of n m
    lengths = torch.diff(ends, prepend=ends.new_zeros(1)).double() / (n * m)
    return lengths.to(device), ((ends - 1) // m).to(device), ((ends - 1) // n).to(device)


def energy_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'| between two sets, in the units of the data.

    The sets are taken as two laws (V-statistic: a point also meets itself), so it is never negative and zero only for
    equal sets; for samples of one law it is above zero by E|X - X'| (1/n + 1/m) on average, so compare at equal sizes.

    Source: Székely and Rizzo 2013, "Energy statistics", J. Stat. Plan. Inference 143.

    Raises:
        ValueError: If a set is empty.
    """
    _check(a, b)
    centre = a.double().mean(0)  # distances come from a product of matrices, which would lose digits far from zero
    a, b = a.double() - centre, b.double() - centre
    return max(2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b), 0.0)


def _mean_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    rows = a.split(max(1, CHUNK // len(b)))
    return sum(torch.cdist(part, b).sum().item() for part in rows) / (len(a) * len(b))


def frechet(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """Return the squared Wasserstein distance of order 2 between normal laws with the moments of two sets.

    It also stands where there are fewer points than numbers in each, but grows as either set shrinks: compare at
    equal sizes.

    Raises:
        ValueError: If a set has fewer than two points, and so no covariance.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"expected two points or more in each set, got {len(a)} and {len(b)}")
    a, b = a.double(), b.double()
    return frechet_normal(a.mean(0), torch.atleast_2d(a.T.cov()), b.mean(0), torch.atleast_2d(b.T.cov()))


def frechet_normal(
    mean_a: Float[Tensor, " f"], cov_a: Float[Tensor, "f f"], mean_b: Float[Tensor, " f"], cov_b: Float[Tensor, "f f"]
) -> float:
    """Return the squared distance of the means + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) of two normal laws.

    The last trace is the sum of the singular values of A^1/2 B^1/2: no root of a product is taken, so a covariance
    that is not of full rank needs no ridge.

    Source: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions".
    """
    shared = torch.linalg.svdvals(_root(cov_a) @ _root(cov_b)).sum()
    squares = (mean_a - mean_b).double().square().sum() + cov_a.double().trace() + cov_b.double().trace()
    return max((squares - 2 * shared).item(), 0.0)


def _root(matrix: Float[Tensor, "f f"]) -> Float[Tensor, "f f"]:
    """Return the symmetric square root of a covariance; what rounding made of a zero, above or below, is zero again."""
    values, vectors = torch.linalg.eigh(matrix.double())
    rounding = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    return (vectors * torch.where(values > rounding, values, 0).sqrt()) @ vectors.T


def nearest(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, " n"]:
    """Return the distance of each point of a to the nearest of b; ValueError if a set is empty."""
    _check(a, b)
    centre = a.double().mean(0)
    a, best = a.double() - centre, torch.full((len(a),), torch.inf, dtype=torch.float64, device=a.device)
    for part in b.split(max(1, CHUNK // max(len(a), a.shape[1]))):
        best = torch.minimum(best, torch.cdist(a, part.double() - centre).amin(1))
    return best


def _check(a: Tensor, b: Tensor, *, finite: bool = False) -> None:
    if not len(a) or not len(b):
        raise ValueError(f"expected one point or more in each set, got {len(a)} and {len(b)}")
    if finite and not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("expected finite points, got others; drop them first")


def wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], order: int = 2) -> float:
    """Return the least (mean |x - y|^order)^(1/order) over all ways to move one set to the other, in units of the data.

    Exact: an assignment where the sets are equally large, a linear program of POT where they are not. The work grows
    as n^3: a second or so for 1,000 points.

    Raises:
        ValueError: If a set is empty or holds what is not finite, or the order is below 1.
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
    """Return the least cost of a plan whose rows count alike, and its columns, too."""
    try:
        import ot
    except ImportError as error:
        raise UsageError(
            f"exact transport between {cost.shape[0]:,} and {cost.shape[1]:,} points needs POT: pip install"
            " 'feller[bridges]', or take equally many"
        ) from error
    return float(ot.emd2([], [], cost.cpu().numpy(), numItermax=10_000_000))  # pyrefly: ignore[bad-argument-type]


STEPS, ROUNDS = 20, 10
"""Steps from one exponential, and how often they are made at the last blur, at most."""
TOLERANCE = 1e-2
"""Largest mean change of a potential over such steps, in units of the squared blur."""


def sinkhorn_divergence(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], *, blur: float = 0.05, scaling: float = 0.95
) -> float:
    """Return OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2, in squared units of the data; the sets count alike.

    OT is the least <P, |x - y|^2 / 2> + blur^2 KL(P | a b). The divergence is zero for equal sets and about half the
    squared Wasserstein distance of order 2 where that is far above the blur. Where clusters far apart must exchange
    members it comes out too small, here as elsewhere: the steps do not last until they have; `wasserstein` is exact.

    Args:
        a: One set.
        b: The other.
        blur: Length below which differences do not count, in units of the data.
        scaling: Factor by which the blur falls from the extent of the data, step by step.

    Raises:
        ValueError: If a set is empty, holds what is not finite, or the blur or the scaling is out of range.
    """
    _check(a, b, finite=True)
    if not blur > 0 or not 0 < scaling < 1:
        raise ValueError(f"expected a blur above 0 and a scaling between 0 and 1, got {blur:g} and {scaling:g}")
    middle = a.double().mean(0)
    a, b = a.double() - middle, b.double() - middle
    f, g = _potentials(_cost(a, b), blur, scaling)
    zero = torch.zeros_like
    own_f, _ = _converge_potentials(
        _cost(a, a), zero(f), zero(f), blur**2
    )  # near a set itself no falling blur is needed
    own_g, _ = _converge_potentials(_cost(b, b), zero(g), zero(g), blur**2)
    return (f - own_f).mean().item() + (g - own_g).mean().item()


def _cost(a: Float64[Tensor, "n d"], b: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    return SquaredDistance()(a, b, {}).clamp_(min=0).div_(2)


def _potentials(
    cost: Float64[Tensor, "n m"], blur: float, scaling: float
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """Return the potentials of the plan between two sets: half steps of both at once, while the blur falls."""
    wide = max(math.sqrt(2 * cost.max().item()), blur)
    f, g = _soft_minimum(cost, wide**2), _soft_minimum(cost.T, wide**2)
    for i in range(math.ceil(math.log(wide / blur) / -math.log(scaling))):
        f, g = _half_steps(cost, f, g, (wide * scaling**i) ** 2, 1)
    return _converge_potentials(cost, f, g, blur**2)


def _converge_potentials(
    cost: Float64[Tensor, "n m"], f: Float64[Tensor, " n"], g: Float64[Tensor, " m"], epsilon: float
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """Return the potentials from which further steps lead no further, or not far."""
    for _ in range(ROUNDS):
        before = f, g
        f, g = _half_steps(cost, f, g, epsilon, STEPS)
        if max((f - before[0]).abs().mean().item(), (g - before[1]).abs().mean().item()) <= TOLERANCE * epsilon:
            break
    return _soft_minimum(cost - g, epsilon), _soft_minimum(cost.T - f, epsilon)


def _half_steps(
    cost: Float64[Tensor, "n m"], f: Float64[Tensor, " n"], g: Float64[Tensor, " m"], epsilon: float, number: int
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """Move both potentials half way to where the plan's rows and columns would meet, some times.

    One exponential serves all these steps; where it is too small for a number, one step in logarithms is made instead.
    """
    plan = (f[:, None] + g).sub_(cost).div_(epsilon).exp_()
    u, v = torch.ones_like(f), torch.ones_like(g)
    for _ in range(number):
        rows, columns = plan @ v / len(v), u @ plan / len(u)
        u, v = (u / rows).sqrt(), (v / columns).sqrt()
    new = f + epsilon * u.log(), g + epsilon * v.log()
    if new[0].isfinite().all() and new[1].isfinite().all():
        return new
    return (f + _soft_minimum(cost - g, epsilon)) / 2, (g + _soft_minimum(cost.T - f, epsilon)) / 2


def _soft_minimum(cost: Float64[Tensor, "n m"], epsilon: float) -> Float64[Tensor, " n"]:
    """Return -epsilon log mean exp(-cost / epsilon) of each row."""
    return epsilon * (math.log(cost.shape[1]) - torch.logsumexp(-cost / epsilon, 1))
