"""How long one example's gradient may be."""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.privacy.noise.grid_noise import Noise


class ClipNorm(abc.ABC):
    """A clip norm. Implement two methods to add a kind."""

    if TYPE_CHECKING:  # a field or an attribute of every kind; a real property would be in the way

        @property
        def norm(self) -> float:
            """Longest gradient of one example at the next step."""
            ...

    @abc.abstractmethod
    def sum_sigma(self, sigma: float) -> float:
        """Return the noise of the sum, in clip norms, so that all that is told together costs that of a given sigma."""

    @abc.abstractmethod
    def update(self, norms: Float[Tensor, " b"], expected_size: float, noise: Noise) -> None:
        """Look at the lengths of a step's gradients, with noise."""


@dataclass(frozen=True)
class FixedClipNorm(ClipNorm):
    """The same norm at every step."""

    norm: float = 1.0

    def __post_init__(self) -> None:
        check_number("norm", self.norm, gt=0, remedy="1 is usual")

    def sum_sigma(self, sigma: float) -> float:
        return sigma

    def update(self, norms: Float[Tensor, " b"], expected_size: float, noise: Noise) -> None:
        """Learn nothing."""


class AdaptiveClipNorm(ClipNorm):
    """A norm that follows a quantile of the lengths, from a noisy count of those below it; its cost is in the sum's.

    Source: Andrew, Thakkar, McMahan and Ramaswamy 2021, "Differentially private learning with adaptive clipping",
    arXiv 1905.03871, theorem 1: the sum's noise rises a little, and sum and count together cost what the plain sum did.
    """

    def __init__(self, norm: float = 1.0, quantile: float = 0.5, rate: float = 0.2, *, count_sigma: float) -> None:
        """Begin with a norm.

        Args:
            norm: Of the first step.
            quantile: Share of the gradients that shall be left as they are.
            rate: Of learning, in logarithms of the norm.
            count_sigma: Noise of the count, in examples; a twentieth of the batch is usual. More than half the sigma of
                the sum.
        """
        if not (norm > 0 and 0 < quantile < 1 and rate > 0 and count_sigma > 0):
            raise UsageError(
                "norm, rate and count_sigma above 0 and a quantile between 0 and 1",
                f"{norm:g}, {rate:g}, {count_sigma:g} and {quantile:g}",
            )
        self._norm, self.quantile, self.rate, self.count_sigma = norm, quantile, rate, count_sigma

    @property
    def norm(self) -> float:
        """Longest gradient of one example at the next step."""
        return self._norm

    def restore(self, norm: float) -> None:
        """Go on from the norm of an earlier step."""
        self._norm = norm

    def sum_sigma(self, sigma: float) -> float:
        """Return (sigma^-2 - (2 count_sigma)^-2)^(-1/2): each example moves the count, less a half, by a half."""
        remaining_precision = sigma**-2 - (2 * self.count_sigma) ** -2 if sigma else math.inf
        if remaining_precision <= 0:
            raise UsageError(
                f"the noise of the count, {self.count_sigma:g} examples, must be above half of {sigma:g}",
                remedy="Raise it",
            )
        return remaining_precision**-0.5

    def update(self, norms: Float[Tensor, " b"], expected_size: float, noise: Noise) -> None:
        """Multiply the norm with e^(-rate (share - quantile)), the noisy share of lengths at most the norm.

        The share is not cut to [0, 1]: that would move it inwards on average, and the norm off its quantile.
        """
        below = (norms <= self.norm).double().sub(0.5).sum()
        noisy_fraction = noise.add_gaussian(below, self.count_sigma).item() / expected_size + 0.5
        self._norm *= math.exp(-self.rate * (noisy_fraction - self.quantile))
