"""Euler step of rates, as a baseline."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from feller.paths import TokenStepRule
from feller.paths.discrete.token_distribution import TokenDistribution

_LARGE = 1e4
"""Finite change of log p of a token whose probability becomes zero."""


@dataclass(frozen=True)
class EulerRates(TokenStepRule):
    """Euler step on any path: rates at the start times the step size."""

    def distribution_and_change(
        self, path: TokenDistribution, x_1: Int[Tensor, " m"], t: Float[Tensor, " m"], s: float, vocab_size: int
    ) -> tuple[Float[Tensor, "m S"], Float[Tensor, "m S"]]:
        """Return distribution and change at the start of the step."""
        slope = path.time_derivative(x_1, t, vocab_size).nan_to_num(nan=0.0, posinf=_LARGE, neginf=-_LARGE)
        return path.log_probabilities(x_1, t, vocab_size), (s - t)[:, None] * slope
