"""The family of networks that tell of data, and draw none."""

from dataclasses import dataclass

from feller.data.target import Target
from feller.draws import Draw
from feller.paths.path import Path
from feller.processes import Characteristics
from feller.tree import State


@dataclass(frozen=True)
class Estimates(Path):
    """A path that is the data at all times: the network sees them and answers with a target, [b, answers].

    Answers are numbers less their means, in their deviations, or logits of classes.
    """

    about: Target
    """What is told of the data."""

    @property
    def instead(self) -> str:
        """Ask it."""
        return (
            f"this run tells {', '.join(self.about.names)} of data and draws none; ask it about some with `feller"
            " evaluate --data`, or name it as a --reward of another run"
        )

    def sample(self, x_0: State, x_1: State, t: State, draw: Draw | None = None) -> State:
        """Return the data."""
        return x_1

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return the data: what is told of them comes beside them, see `Regression`."""
        return x_1

    def characteristics(self, prediction: State, x_t: State, t: State) -> Characteristics:
        """Refuse: there is no process in time."""
        raise TypeError("this network tells of data and draws none; ask it with `evaluate.estimates`")
