"""Budgets of the claims about discrete paths."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """Budgets of all claims."""

    seeds: tuple[int, ...]
    digits: int
    """Training steps of each network for 8 x 8 digits."""
    text: int
    """Training steps of each network for characters."""
    windows: int
    """Maximum number of test windows for bounds."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, which are not in the package."""
    minutes: float | None = None
    """CPU-minutes per language model; None skips all tests of this length, larger images too."""
    calls: tuple[int, int, int, int] = (4, 8, 16, 64)
    """Network calls per sample, in increasing order."""
    resamplings: tuple[float, ...] = (1.0, 4.0, 16.0)
    """Expected resamplings per token of the correctors."""
