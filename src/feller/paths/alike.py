"""The family of networks that place data among others, and draw none."""

from dataclasses import dataclass

from feller.draws import Draw
from feller.paths.path import Path
from feller.processes import Characteristics
from feller.tree import State


@dataclass(frozen=True)
class Alike(Path):
    """A path that is the data at all times: the network answers with a vector, and like data with like ones, [b, d]."""

    def sample(self, x_0: State, x_1: State, t: State, draw: Draw | None = None) -> State:
        """Return the data."""
        return x_1

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return the data: what they are like comes beside them, see `Contrastive`."""
        return x_1

    def characteristics(self, prediction: State, x_t: State, t: State) -> Characteristics:
        """Refuse: there is no process in time."""
        raise TypeError("this network finds what data are like and draws none; ask it for vectors")
