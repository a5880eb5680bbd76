"""The family of networks that place data among others, and draw none."""

from dataclasses import dataclass

from feller.paths.families import Timeless


@dataclass(frozen=True)
class Alike(Timeless):
    """A path that is the data at all times: the network answers with a vector, and like data with like ones, [b, d]."""

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network finds what data are like and draws none; ask it for vectors"
