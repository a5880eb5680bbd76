"""The family of laws of rows that are products of tables over few columns."""

from dataclasses import dataclass

from feller.paths.families import Timeless


@dataclass(frozen=True)
class Graphical(Timeless):
    """p(row) is the exponential of a sum of potentials, over Z: a path that is the data at all times.

    The network holds the potentials; it draws whole rows, those of which some columns are known too.
    """

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this law draws whole rows, not along time; draw from it with `marginals`"
