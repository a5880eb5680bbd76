"""The family of laws of documents that go token after token, each with what was hidden of it behind it."""

from dataclasses import dataclass

from feller.paths.families import Timeless


@dataclass(frozen=True)
class Interleaved(Timeless):
    """p(tokens) is the product of the laws of each token given those before it in its sample.

    The network sees tokens and answers, at each place, with the logits of the token that comes next. Text, pictures and
    what fills their holes are one sequence, see `tokens.masked_spans`; `tokens.generate` draws.
    """

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this law goes token after token, not along time; draw documents with `generate`"
