"""The family of networks that write data as codes and read them back, and draw none."""

from dataclasses import dataclass

from feller.paths.families import Timeless


@dataclass(frozen=True)
class Codes(Timeless):
    """A path that is the data at all times: the network answers with what its codes tell of them."""

    @property
    def instead(self) -> str:
        """Write data with it."""
        return (
            "this run writes pictures as codes and draws none; see how it copies some with `feller evaluate --data`, or"
            " let a model of texts and pictures learn its codes"
        )

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network writes data as codes and draws none; use its `encode` and `decode`"
