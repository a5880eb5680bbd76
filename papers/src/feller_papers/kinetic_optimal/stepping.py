"""The Euler step of rates, for comparison."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from feller.paths import TokenStepRule
from feller.paths.discrete.token_distribution import TokenDistribution

_LARGE = 1e4
"""Change of log p of a symbol that loses its last mass: surely left, but a number."""


@dataclass(frozen=True)
class Instant(TokenStepRule):
    """Rates at the start times the length of the step: the Euler step, which is valid on every path."""

    def distribution_and_change(
        self, path: TokenDistribution, x_1: Int[Tensor, " m"], t: Float[Tensor, " m"], s: float, vocab_size: int
    ) -> tuple[Float[Tensor, "m S"], Float[Tensor, "m S"]]:
        """Look at the start alone."""
        slope = path.time_derivative(x_1, t, vocab_size).nan_to_num(nan=0.0, posinf=_LARGE, neginf=-_LARGE)
        return path.log_probabilities(x_1, t, vocab_size), (s - t)[:, None] * slope
