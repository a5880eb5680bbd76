"""How much is spent on the claims about discrete paths."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    seeds: tuple[int, ...]
    digits: int
    """Training steps of each network for 8 x 8 digits."""
    text: int
    """Training steps of each network for characters."""
    windows: int
    """Windows of held-out text that bounds are taken over, at most."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, of those that are not in the package."""
    minutes: float | None = None
    """Of the processor for each language model; None leaves out all that takes so long, larger pictures too."""
    calls: tuple[int, int, int, int] = (4, 8, 16, 64)
    """Of a network for a set of pictures: few, some, as usual, many."""
    resamplings: tuple[float, ...] = (1.0, 4.0, 16.0)
    """Expected events per token over all times, of correctors."""
