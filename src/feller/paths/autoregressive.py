"""The family of laws that go token after token instead of along time."""

from dataclasses import dataclass

from feller.paths.families import Timeless


@dataclass(frozen=True)
class Autoregressive(Timeless):
    """p(x_1) is the product of the laws of each token given those before it: a path that is the data at all times.

    The network sees the data and answers with the logits of each token given those before it; `simulate.decode` draws.
    """

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this law goes token after token, not along time; draw from it with `decode`"
