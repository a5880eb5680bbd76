"""Objectives that are solved directly and released once with DP noise, instead of being trained by SGD."""

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
    """Privately fitted model, and the DP events to charge for its release."""

    architecture: NetworkConfig
    network: nn.Module
    events: tuple[DpEvent, ...]
    summary: str
    """Description of the result, for messages."""


class OneShotObjective(SelfContainedObjective):
    """Base class of objectives fitted without training steps. Subclasses implement `budget_rho` and `fit`."""

    is_one_shot: ClassVar[bool] = True

    @abc.abstractmethod
    def budget_rho(self, epsilon: float, ledger: Ledger) -> float:
        """Return the zCDP budget rho of the fit.

        Together with the events that are already in the ledger, the fit then spends at most epsilon.

        Raises:
            UsageError: If the budget is too small for the number of rows.
        """

    @abc.abstractmethod
    def fit(self, rows: Dataset, rho: float, noise: Noise) -> OneShotResult:
        """Fit a model with a zCDP budget of rho; an infinite rho adds no noise and gives no privacy."""
