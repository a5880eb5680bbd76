"""What is found of all rows at once, and told with noise, instead of learned by steps."""

import abc
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from feller.data.modality import Dataset
from feller.networks.network_config import NetworkConfig
from feller.privacy.accounting.dp_events import DpEvent
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.noise.grid_noise import Noise
from feller.training.objective import SelfContainedObjective


@dataclass(frozen=True, eq=False)
class OneShotResult:
    """What is given away, and what that cost."""

    architecture: NetworkConfig
    network: nn.Module
    events: tuple[DpEvent, ...]
    summary: str
    """What was found, for people."""


class OneShotObjective(SelfContainedObjective):
    """Implement two methods more to find a model without steps."""

    is_one_shot: ClassVar[bool] = True

    @abc.abstractmethod
    def budget_rho(self, epsilon: float, ledger: Ledger) -> float:
        """Return rho, zero-concentrated, that may be spent so that all in the ledger stays within epsilon.

        Raises:
            UsageError: If that is too little for so many rows.
        """

    @abc.abstractmethod
    def fit(self, rows: Dataset, rho: float, noise: Noise) -> OneShotResult:
        """Look at the rows for rho, at most; an infinite one asks for exact answers, which protect nobody."""
