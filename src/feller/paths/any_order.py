"""The family of laws of rows that go column after column, in any order."""

from dataclasses import dataclass

from feller.paths.autoregressive import Autoregressive


@dataclass(frozen=True)
class AnyOrder(Autoregressive):
    """p(row) is the product of the laws of each column given those that were written before it.

    The network answers with the logits of each token; `simulate.fill` draws.
    """

    anyhow: bool = True
    """The network has learned every order; else that of the table alone, so that what is known must come first."""
