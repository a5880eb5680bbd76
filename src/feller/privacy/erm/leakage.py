"""What weights with noise tell about each row they were minimum to: exact, as the noise is normal.

Source: Hannun, Guo and van der Maaten 2021, arXiv 2102.11673; Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv
2201.12383, section 4.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from feller.privacy.erm.ridge import Minimum
from feller.privacy.leakage.fisher_information import Leakage


@dataclass(frozen=True)
class Leakages:
    """About all rows."""

    rows: Leakage
    """About the numbers of each."""
    labels: Leakage
    """About the label of each."""


def leakage(minimum: Minimum, noise: float, which: Bool[Tensor, " d"] | None = None) -> Leakages:
    """Return what is told, from |J|^2 = c^2 |a|^2 |theta|^2 + 2 c r a . H^-1 theta + r^2 |H^-1|^2, with a = H^-1 x.

    Args:
        minimum: The weights.
        noise: Standard deviation of the noise that they are told with.
        which: Numbers of a row that it is about, such as all but the constant; all by default.
    """
    chosen = torch.ones_like(minimum.theta, dtype=torch.bool) if which is None else which
    c, r, a = minimum.curvatures, minimum.residuals, minimum.x @ minimum.inverse
    theta, inverse = minimum.theta[chosen], minimum.inverse[:, chosen]
    sizes = a.square().sum(1)
    whole = c**2 * sizes * theta.square().sum() + 2 * c * r * (a @ (inverse @ theta)) + r**2 * inverse.square().sum()
    return Leakages(
        Leakage(whole / noise**2, int(chosen.sum()), 1),
        Leakage(sizes / noise**2, 1, 1),
    )
