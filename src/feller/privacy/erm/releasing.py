"""Weights of a linear model, told with noise."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.privacy.accounting.dp_events import Gaussian
from feller.privacy.erm.ridge import Minimum
from feller.privacy.noise.grid_noise import Noise


@dataclass(frozen=True, eq=False)
class Released:
    """What is told, and what it costs."""

    theta: Float[Tensor, " d"]
    expense: Gaussian


def release(minimum: Minimum, scale: float, noise: Noise, what: str = "weights") -> Released:
    """Return the weights with normal noise, paid for by a row that comes or goes while the number of rows is public.

    Args:
        minimum: The weights, to rounding those at the minimum.
        scale: Standard deviation of the noise of each.
        noise: Where it comes from.
        what: They are, for people.

    Raises:
        UsageError: If the scale is not above 0.
    """
    if not 0 < scale < math.inf:
        raise UsageError(f"the scale of the noise must be finite and above 0, got {scale:g}")
    sensitivity = minimum.ridge.sensitivity(minimum.n) / 2
    return Released(noise.added(minimum.theta, scale), Gaussian(what, scale / sensitivity))
