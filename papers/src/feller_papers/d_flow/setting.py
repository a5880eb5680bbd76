"""How much is spent on the claims about sources that are searched."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """How much is spent on the claims."""

    seeds: tuple[int, ...]
    base: int
    """Training steps of the network for 8 x 8 digits."""
    search: int
    """Steps of a search, at most."""
    pictures: int
    """Unseen digits that are restored, or molecules that are aimed at; as many other digits choose scales."""
    drawn: int
    """Searches whose ends are compared with a posterior."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, of those that are not in the package."""
