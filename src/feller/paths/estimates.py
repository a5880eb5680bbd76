"""The family of networks that tell of data, and draw none."""

from dataclasses import dataclass

from feller.data.target import Target
from feller.paths.families import Timeless


@dataclass(frozen=True)
class Estimates(Timeless):
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

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network tells of data and draws none; ask it with `evaluate.estimates`"
