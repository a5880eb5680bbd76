"""The family of laws of rows that are products of tables over few columns."""

from dataclasses import dataclass

from feller.draws import Draw
from feller.paths.path import Path
from feller.processes import Characteristics
from feller.tree import State


@dataclass(frozen=True)
class Graphical(Path):
    """p(row) is the exponential of a sum of potentials, over Z: a path that is the data at all times.

    The network holds the potentials; it draws whole rows, those of which some columns are known too.
    """

    def sample(self, x_0: State, x_1: State, t: State, draw: Draw | None = None) -> State:
        """Return the data."""
        return x_1

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return the data."""
        return x_1

    def characteristics(self, prediction: State, x_t: State, t: State) -> Characteristics:
        """Refuse: there is no process in time."""
        raise TypeError("this law draws whole rows, not along time; draw from it with `marginals`")
