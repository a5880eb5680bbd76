"""Budgets of the claims about source optimisation."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """Budgets of all claims."""

    seeds: tuple[int, ...]
    base_steps: int
    """Training steps of the network for 8 x 8 digits."""
    search_steps: int
    """Maximum number of optimisation steps of a source."""
    num_test: int
    """Test digits that are restored, or target molecules; as many other digits tune guidance scales."""
    num_samples: int
    """Number of optimised samples that are compared with a posterior."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, which are not in the package."""
