"""Per-example clipping norms: fixed, or adaptive to a quantile of the gradient norms."""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.noise.grid_noise import Noise


class ClipNorm(abc.ABC):
    """Per-example gradient clipping norm. Subclasses implement `sum_sigma` and `update`."""

    if TYPE_CHECKING:  # subclasses define a field or a property

        @property
        def norm(self) -> float:
            """Clipping norm of the next step."""
            ...

    @abc.abstractmethod
    def sum_sigma(self, sigma: float) -> float:
        """Return the noise multiplier of the gradient sum; it exceeds `sigma` if a step also releases other values.

        `sigma` is the noise multiplier that the ledger records for a step. All releases of a step then cost together as
        much as the sum alone with noise multiplier `sigma`.
        """

    @abc.abstractmethod
    def update(self, norms: Float[Tensor, " b"], expected_size: float, noise: Noise) -> None:
        """Adapt the clipping norm to the gradient norms of a step."""


@dataclass(frozen=True)
class FixedClipNorm(ClipNorm):
    """Constant clipping norm."""

    norm: float = 1.0

    def __post_init__(self) -> None:
        check_number("norm", self.norm, gt=0, remedy="1 is usual")

    def sum_sigma(self, sigma: float) -> float:
        return sigma

    def update(self, norms: Float[Tensor, " b"], expected_size: float, noise: Noise) -> None:
        """Keep the clipping norm; all arguments are unused."""


class AdaptiveClipNorm(ClipNorm):
    """Clipping norm that tracks a quantile of the gradient norms, using a noisy count of unclipped gradients.

    Source: Andrew, Thakkar, McMahan and Ramaswamy 2021, "Differentially private learning with adaptive clipping", arXiv
    1905.03871, theorem 1: with slightly more noise on the sum, sum and count together cost as much as the plain sum.
    """

    def __init__(self, norm: float = 1.0, quantile: float = 0.5, rate: float = 0.2, *, count_sigma: float) -> None:
        """Initialise with the clipping norm of the first step.

        Args:
            norm: Clipping norm of the first step.
            quantile: Target fraction of gradients that are not clipped.
            rate: Learning rate of the log-norm.
            count_sigma: Standard deviation of the count's noise, in examples; must exceed half the noise multiplier. A
                typical value is a twentieth of the batch size.
        """
        if not (norm > 0 and 0 < quantile < 1 and rate > 0 and count_sigma > 0):
            raise UsageError(
                "norm, rate and count_sigma above 0 and a quantile between 0 and 1",
                f"{norm:g}, {rate:g}, {count_sigma:g} and {quantile:g}",
            )
        self._norm, self.quantile, self.rate, self.count_sigma = norm, quantile, rate, count_sigma

    @property
    def norm(self) -> float:
        """Clipping norm of the next step."""
        return self._norm

    def restore(self, norm: float) -> None:
        """Set the clipping norm to that of a checkpoint."""
        self._norm = norm

    def sum_sigma(self, sigma: float) -> float:
        """Return the noise multiplier of the sum, (sigma^-2 - (2 count_sigma)^-2)^(-1/2).

        `count_sigma` is the standard deviation of the noise on the count of unclipped gradients. With 1/2 subtracted
        per row, this count has sensitivity 1/2.
        """
        remaining_precision = sigma**-2 - (2 * self.count_sigma) ** -2 if sigma else math.inf
        if remaining_precision <= 0:
            raise UsageError(f"count_sigma above {sigma / 2:g}, half the noise multiplier", f"{self.count_sigma:g}")
        return remaining_precision**-0.5

    def update(self, norms: Float[Tensor, " b"], expected_size: float, noise: Noise) -> None:
        """Multiply the clipping norm by e^(-rate (fraction - quantile)).

        `rate` is the learning rate of the log of the clipping norm, and `quantile` the target fraction of unclipped
        gradients. `fraction` is the fraction of unclipped gradients in the step, with noise. It is not clamped to
        [0, 1], because clamping would bias it.
        """
        centred_count = (norms <= self.norm).double().sub(0.5).sum()
        noisy_fraction = noise.add_gaussian(centred_count, self.count_sigma).item() / expected_size + 0.5
        self._norm *= math.exp(-self.rate * (noisy_fraction - self.quantile))
