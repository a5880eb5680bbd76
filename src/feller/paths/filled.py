"""The family of networks that fill in what is missing at once, by its expectation, and draw none."""

from dataclasses import dataclass

import torch
from torch import Tensor

from feller.core.rng import Draw
from feller.paths.families import Timeless


@dataclass(frozen=True)
class Filled(Timeless):
    """A path that is zero at all times: a network learns the data from its conditions alone."""

    @property
    def instead(self) -> str:
        """Fill in with it."""
        return "this run fills in what is missing by its expectation and draws none; give it something to fill in"

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network answers at once and draws none; use `infilling.infill`"

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, draw: Draw | None = None) -> Tensor:
        """Return zeros: a state would give the answer away."""
        return torch.zeros_like(x_1)
