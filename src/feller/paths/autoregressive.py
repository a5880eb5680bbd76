"""The family of laws that go token after token instead of along time."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from feller.draws import Draw
from feller.paths.path import Path
from feller.processes import Characteristics


@dataclass(frozen=True)
class Autoregressive(Path):
    """p(x_1) is the product of the laws of each token given those before it: a path that is the data at all times.

    The network sees the data and answers with the logits of each token given those before it; `simulate.decode` draws.
    """

    def sample(
        self, x_0: Int[Tensor, "b n"], x_1: Int[Tensor, "b n"], t: Float[Tensor, " b"], draw: Draw | None = None
    ) -> Int[Tensor, "b n"]:
        """Return the data."""
        return x_1

    def target(
        self, x_t: Int[Tensor, "b n"], x_0: Int[Tensor, "b n"], x_1: Int[Tensor, "b n"], t: Float[Tensor, " b"]
    ) -> Int[Tensor, "b n"]:
        """Return the data."""
        return x_1

    def characteristics(
        self, prediction: Float[Tensor, "b n K"], x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"]
    ) -> Characteristics:
        """Refuse: there is no process in time."""
        raise TypeError("this law goes token after token, not along time; draw from it with `decode`")
