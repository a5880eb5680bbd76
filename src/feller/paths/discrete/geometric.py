"""Any path of tokens, from logits as functions of data and time."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.paths.discrete.correctors import Odds
from feller.paths.discrete.token_path import TokenPath


@dataclass(frozen=True)
class Geometric(TokenPath):
    """p_t(x | x_1) = softmax(logits(x_1, t)): write the logits down, and the process follows.

    At t = 0 they should not depend on x_1, and give the law of the source; towards t = 1 all mass should come to x_1,
    and at t = 1 itself does. Source: Shaul et al. 2024, arXiv 2412.03487: a kinetic optimum for any path.
    """

    logits: Callable[[Tensor, Tensor], Tensor]
    """(x_1 [m], t [m]) -> logits of all symbols, [m, S]; torch differentiates it in t."""

    def __post_init__(self) -> None:
        if isinstance(self.corrector, Odds):
            raise UsageError("Odds needs a mixture path, this one is geometric; use Resample")

    def log_probabilities(
        self, x_1: Int[Tensor, " m"], t: Float[Tensor, " m"], count: int | None = None
    ) -> Float[Tensor, "m S"]:
        """Normalise the logits."""
        return self.logits(x_1, t).log_softmax(1)
