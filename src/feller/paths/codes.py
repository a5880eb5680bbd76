"""The family of networks that write data as codes and read them back, and draw none."""

from dataclasses import dataclass

from feller.draws import Draw
from feller.paths.path import Path
from feller.processes import Characteristics
from feller.tree import State


@dataclass(frozen=True)
class Codes(Path):
    """A path that is the data at all times: the network answers with what its codes tell of them."""

    @property
    def instead(self) -> str:
        """Write data with it."""
        return (
            "this run writes pictures as codes and draws none; see how it copies some with `feller evaluate --data`, or"
            " let a model of texts and pictures learn its codes"
        )

    def sample(self, x_0: State, x_1: State, t: State, draw: Draw | None = None) -> State:
        """Return the data."""
        return x_1

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return the data."""
        return x_1

    def characteristics(self, prediction: State, x_t: State, t: State) -> Characteristics:
        """Refuse: there is no process in time."""
        raise TypeError("this network writes data as codes and draws none; use its `encode` and `decode`")
