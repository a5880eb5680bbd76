"""What is found of all rows at once, and told with noise, instead of learned by steps."""

import abc
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from feller.data.modality import Dataset
from feller.networks.architecture import Architecture
from feller.privacy.accounting.dp_events import Expense
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.noise.grid_noise import Noise
from feller.training.objective import PlainObjective


@dataclass(frozen=True, eq=False)
class Told:
    """What is given away, and what that cost."""

    architecture: Architecture
    network: nn.Module
    expenses: tuple[Expense, ...]
    said: str
    """What was found, for people."""


class AtOnce(PlainObjective):
    """Implement two methods more to find a model without steps."""

    one_shot: ClassVar[bool] = True

    @abc.abstractmethod
    def afford(self, epsilon: float, ledger: Ledger) -> float:
        """Return rho, zero-concentrated, that may be spent so that all in the ledger stays within epsilon.

        Raises:
            UsageError: If that is too little for so many rows.
        """

    @abc.abstractmethod
    def find(self, rows: Dataset, rho: float, noise: Noise) -> Told:
        """Look at the rows for rho, at most; an infinite one asks for exact answers, which protect nobody."""
