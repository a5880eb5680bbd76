"""How far two sets of points are apart; no network, no labels."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.rng import Draws

CHUNK = 2**22
"""Numbers that are held at once, about: 32 MiB."""


def sliced_wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], draws: Draws, directions: int = 128) -> float:
    """Return the mean over random directions of the Wasserstein distance of order 1 between the projections.

    Along each direction it is exact, also where n and m differ: the area between the two quantile functions. Zero
    only for equal sets (with enough directions), and in the units of the data.

    Args:
        a: One set.
        b: The other.
        draws: Source of the directions, which do not depend on the sets.
        directions: How many; the error of their mean falls with its root.

    Raises:
        ValueError: If a set is empty.
    """
    _check(a, b)
    a, b = a.double(), b.double()
    way = draws.at("directions").normal((directions, a.shape[1]), torch.float64, a.device)
    way = way / way.norm(dim=1, keepdim=True)
    share, in_a, in_b = _quantiles(len(a), len(b), a.device)
    total = 0.0
    for part in way.split(max(1, CHUNK // (len(a) + len(b)))):
        gap = _sorted(part @ a.T)[:, in_a] - _sorted(part @ b.T)[:, in_b]
        total += (gap.abs() @ share).sum().item()
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
    """Return the distance of each point of a to the nearest of b.

    Raises:
        ValueError: If a set is empty.
    """
    _check(a, b)
    centre = a.double().mean(0)
    a, best = a.double() - centre, torch.full((len(a),), torch.inf, dtype=torch.float64, device=a.device)
    for part in b.split(max(1, CHUNK // max(len(a), a.shape[1]))):
        best = torch.minimum(best, torch.cdist(a, part.double() - centre).amin(1))
    return best


def _check(a: Tensor, b: Tensor) -> None:
    if not len(a) or not len(b):
        raise ValueError(f"expected one point or more in each set, got {len(a)} and {len(b)}")
