"""How much is spent on the claims about tuning to a reward."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    seeds: tuple[int, ...]
    short: int
    """Rounds of the mixture, of 256 roll-outs."""
    long: int
    """Rounds of the mixture where more is spent, of 512 roll-outs."""
    drawn: int = 10_000
    """Points in a set of samples."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, of those that are not in the package."""
