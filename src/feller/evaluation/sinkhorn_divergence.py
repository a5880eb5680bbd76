"""How far two sets of points are apart, by transport that is blurred on purpose, which keeps it cheap and smooth.

Source: Feydy et al. 2019, "Interpolating between optimal transport and MMD using Sinkhorn divergences",
arXiv 1810.08278; the falling blur follows Kosowsky and Yuille 1994, "The invisible hand algorithm".
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.training.couplings.ground_cost import SquaredDistance

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
    _check_sinkhorn(a, b, blur, scaling)
    middle = a.double().mean(0)
    a, b = a.double() - middle, b.double() - middle
    f, g = _potentials(_cost(a, b), blur, scaling)
    zero = torch.zeros_like
    own_f, _ = _settled(_cost(a, a), zero(f), zero(f), blur**2)  # near a set itself no falling blur is needed
    own_g, _ = _settled(_cost(b, b), zero(g), zero(g), blur**2)
    return (f - own_f).mean().item() + (g - own_g).mean().item()


def _check_sinkhorn(a: Tensor, b: Tensor, blur: float, scaling: float) -> None:
    if not len(a) or not len(b):
        raise ValueError(f"expected one point or more in each set, got {len(a)} and {len(b)}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("expected finite points, got others; drop them first")
    if not blur > 0 or not 0 < scaling < 1:
        raise ValueError(f"expected a blur above 0 and a scaling between 0 and 1, got {blur:g} and {scaling:g}")


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
    return _settled(cost, f, g, blur**2)


def _settled(
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
