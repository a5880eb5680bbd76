"""The family of laws of documents that go token after token, each with what was hidden of it behind it."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from feller.draws import Draw
from feller.paths.path import Path
from feller.processes import Characteristics


@dataclass(frozen=True)
class Interleaved(Path):
    """p(tokens) is the product of the laws of each token given those before it in its sample.

    The network sees tokens and answers, at each place, with the logits of the token that comes next. Text, pictures and
    what fills their holes are one sequence, see `tokens.masked_spans`; `tokens.generate` draws.
    """

    def sample(
        self, x_0: Int[Tensor, "b n"], x_1: Int[Tensor, "b n"], t: Float[Tensor, " b"], draw: Draw | None = None
    ) -> Int[Tensor, "b n"]:
        """Return the data."""
        return x_1

    def target(
        self, x_t: Int[Tensor, "b n"], x_0: Int[Tensor, "b n"], x_1: Int[Tensor, "b n"], t: Float[Tensor, " b"]
    ) -> Int[Tensor, "b n"]:
        """Return the data: which token is the next in a packed row is told by `CausalMasking`."""
        return x_1

    def characteristics(
        self, prediction: Float[Tensor, "b n K"], x_t: Int[Tensor, "b n"], t: Float[Tensor, " b"]
    ) -> Characteristics:
        """Refuse: there is no process in time."""
        raise TypeError("this law goes token after token, not along time; draw documents with `generate`")
