"""Whether weights that were told hold the noise that the ledger counts: who has the rows can take it out again."""

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
"""Share by which the ledger may differ from what was planned, by rounding."""


@dataclass(frozen=True)
class NoiseRatio:
    """Root mean square of the noise in the weights, in units of what was charged."""

    size: float
    minimum: float
    """Below which it is too small to be chance."""
    maximum: float

    @property
    def numbers(self) -> dict[str, Any]:
        """Return what people hear of it."""
        return {"noise_held": self.size, "noise_held_least": self.minimum}


def measure_noise(theta: Tensor, best: Tensor, scale: float) -> NoiseRatio:
    """Take the best weights from those that were told.

    Args:
        theta: Weights with noise, [d].
        best: Weights without, [d].
        scale: Standard deviation of the noise of each, as it was charged.
    """
    d, away = len(best), (theta - best) / scale
    least, most = (float(chi2.ppf(q, d) / d) ** 0.5 for q in (FOUR_SIGMA_PROB, 1 - FOUR_SIGMA_PROB))
    return NoiseRatio(away.square().mean().sqrt().item(), least, most)


def check_noise(run: Run, network: nn.Module, best: Tensor, scale: float) -> NoiseRatio:
    """Compare the weights of a run with the best ones for its rows.

    Raises:
        InputError: If they are further away than noise of this size could bring them, or of another shape.
    """
    theta = dict(network.named_parameters()).get("theta")
    if theta is None or theta.shape != best.shape:
        raise InputError(f"the weights of {run.path} are not those of its recipe", remedy="Bring the right ones back")
    noise = measure_noise(theta.detach().to(best), best, scale)
    if not noise.size <= noise.maximum:
        raise InputError(
            f"the weights of {run.path} are not those that its rows and its noise lead to",
            remedy="Bring the right ones back",
        )
    return noise


def check_ledger_noise(run: Run, ledger: Ledger, budget: ClosedFormBudget) -> None:
    """Refuse a ledger that counts other noise of the weights than was planned."""
    spent = sum(one.rho for one in ledger.events if isinstance(one, GaussianMechanism) and one.label == "weights")
    if abs(spent - budget.rho) > MAX_LEDGER_ERROR * budget.rho:
        raise InputError(
            f"{run.ledger} counts other noise than was planned for this run (rho {spent:.4g}, not {budget.rho:.4g})",
            remedy="Bring the right one back",
        )
