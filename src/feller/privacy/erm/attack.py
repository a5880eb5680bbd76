"""Rows of a linear model, reconstructed by whoever knows all the others.

At the minimum the slopes add up to zero, so those of the others tell that of the row, which is the row itself times one
number; the constant in the row tells the number. Exact without noise.
Source: Balle, Cherubin and Hayes 2022, arXiv 2201.04845, section IV.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.privacy.erm.ridge import Ridge


def reconstructed(
    ridge: Ridge,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    theta: Float[Tensor, "k d"],
    which: Int[Tensor, " m"] | None = None,
) -> tuple[Float[Tensor, "k m d"], Float[Tensor, "k m"]]:
    """Return rows and their labels as an attacker finds them who knows all other rows, from weights told k times.

    Args:
        ridge: What was made least.
        x: All rows, the first number of which is a constant 1.
        y: Labels.
        theta: Weights as they were told, with noise or without.
        which: Rows that are looked for; all by default.

    Raises:
        UsageError: If rows have no constant.
    """
    if not (x[:, 0] == 1).all():
        raise UsageError("this attack needs a constant of 1 as the first number of each row: see `with_constant`")
    family = ridge.family
    residuals = family.mean(theta @ x.mT) - y  # [k, n]
    whole = residuals @ x + len(x) * ridge.decay * theta
    rows = slice(None) if which is None else which
    others = whole[:, None] - residuals[:, rows, None] * x[rows]
    found = others / others[..., :1]
    return found, family.mean(torch.einsum("knd,kd->kn", found, theta)) + others[..., 0]
