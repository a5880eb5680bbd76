"""What the families have in common that know no time: their state is the data all along."""

import abc

from feller.core.pytree import State
from feller.core.rng import Draw
from feller.paths.path import Path
from feller.paths.processes import Characteristics


class Timeless(Path):
    """A path that is the data at all times, and drives no process. Implement one member to add a family."""

    @property
    @abc.abstractmethod
    def otherwise(self) -> str:
        """Why there is no process, and what to use in its place."""

    def sample(self, x_0: State, x_1: State, t: State, draw: Draw | None = None) -> State:
        """Return the data."""
        return x_1

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return the data; what else is asked of a network, its objective tells."""
        return x_1

    def characteristics(self, prediction: State, x_t: State, t: State) -> Characteristics:
        """Refuse: there is no process in time."""
        raise TypeError(self.otherwise)
