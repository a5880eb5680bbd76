"""Check that released weights contain the accounted noise: the owner of the rows recomputes the noiseless optimum."""

from dataclasses import dataclass
from typing import Any

from scipy.stats import chi2
from torch import Tensor, nn

from feller.app.workflows.private.privacy_config import ClosedFormBudget
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.evaluation.attacks.attack_scores import FOUR_SIGMA_PROB
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger

MAX_LEDGER_ERROR = 1e-6
"""Maximum relative difference between the privacy cost in the ledger and in the plan that counts as rounding."""


@dataclass(frozen=True)
class NoiseRatio:
    """Ratio of the noise measured in released weights (root mean square) to its accounted standard deviation."""

    size: float
    minimum: float
    """Lower limit of the ratio: random fluctuation of correct noise does not explain a smaller ratio."""
    maximum: float

    @property
    def numbers(self) -> dict[str, Any]:
        """Metrics of the report."""
        return {"noise_held": self.size, "noise_held_least": self.minimum}


def measure_noise(theta: Tensor, best: Tensor, scale: float) -> NoiseRatio:
    """Compare the deviation of released weights from the optimum with the accounted noise."""
    d, deviation = len(best), (theta - best) / scale
    min_ratio, max_ratio = (float(chi2.ppf(q, d) / d) ** 0.5 for q in (FOUR_SIGMA_PROB, 1 - FOUR_SIGMA_PROB))
    return NoiseRatio(deviation.square().mean().sqrt().item(), min_ratio, max_ratio)


def check_noise(run: Run, network: nn.Module, best: Tensor, scale: float) -> NoiseRatio:
    """Compare the deviation of a run's weights from the optimum `best` with the accounted standard deviation `scale`.

    Raises:
        InputError: If the weights deviate from the optimum more than the accounted noise explains, or the shapes
            differ.
    """
    theta = dict(network.named_parameters()).get("theta")
    if theta is None or theta.shape != best.shape:
        raise InputError(
            f"the weights of {run.path} do not match its recipe", remedy="Restore the weights that belong to this run"
        )
    ratio = measure_noise(theta.detach().to(best), best, scale)
    if not ratio.size <= ratio.maximum:
        raise InputError(
            f"the weights of {run.path} differ from the optimum for its rows by more than the added noise explains",
            remedy="Restore the weights that belong to this run",
        )
    return ratio


def check_ledger_noise(run: Run, ledger: Ledger, budget: ClosedFormBudget) -> None:
    """Check that the privacy cost in the ledger of a closed-form fit equals the planned budget.

    Raises:
        InputError: If ledger and plan differ.
    """
    spent = sum(
        event.zcdp_rho for event in ledger.events if isinstance(event, GaussianMechanism) and event.label == "weights"
    )
    if abs(spent - budget.rho) > MAX_LEDGER_ERROR * budget.rho:
        raise InputError(
            f"{run.ledger} does not match the plan of this run: expected a zCDP budget rho of {budget.rho:.4g} for the"
            f" weights; found {spent:.4g}",
            remedy="Restore the ledger that belongs to this run",
        )
