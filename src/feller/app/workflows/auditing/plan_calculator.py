"""What a plan would promise, without a run: epsilon, and what could be reconstructed."""

from collections.abc import Sequence
from typing import Any

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.accounting.dp_events import DpEvent, PoissonSubsampledGaussian
from feller.privacy.leakage.reconstruction_bounds import eps2_added, eps2_replaced, mse_bound
from feller.privacy.leakage.rero import rero

PRIORS = (1 / 256, 0.02, 0.1, 0.5)
"""Chances to guess right without a model, for which the chance with it is told."""
BLIND = 1 / 12
"""Mean squared error of answering the middle, for numbers spread evenly from 0 to 1."""
MAX_NOISE = 1e6
"""Noise of a plan, beyond which nothing is left to be told."""
MIN_NOISE = 1e-3
"""Noise of a plan, in clip norms, below which counting it says nothing."""


def planned_event(noise: float | None, rate: float | None, steps: int | None) -> PoissonSubsampledGaussian:
    """Return the expense of a training as it is asked for.

    Raises:
        UsageError: If something is missing, or out of its range.
    """
    if noise is None or rate is None or steps is None:
        raise UsageError(
            "the calculator takes --noise, --rate and --steps, such as --noise 1.1 --rate 0.01 --steps 1000"
        )
    if noise > MAX_NOISE:
        raise UsageError(
            f"{noise:g} hides all that there is", remedy=f"Plan with {MAX_NOISE:,g} or less", argument="noise"
        )
    if not noise > 0:
        raise UsageError(
            "above 0", f"{noise:g}: without noise everything is told, and nothing bounds it", argument="noise"
        )
    if noise < MIN_NOISE:
        raise UsageError(f"{noise:g} is as good as none", remedy=f"Plan with {MIN_NOISE:g} or more", argument="noise")
    check_number("rate", rate, gt=0, le=1)
    check_number("steps", steps, ge=1)
    return PoissonSubsampledGaussian("training", noise, rate, steps)


def bounds(expenses: Sequence[DpEvent], delta: float) -> dict[str, Any]:
    """Return the numbers of a plan, and what `reconstruction` does."""
    spent = compute_epsilon(expenses, delta)
    return {
        "epsilon": spent,
        "delta": delta,
        "epsilon_pld": spent,
        "epsilon_rdp": compute_epsilon(expenses, delta, method="rdp"),
        **reconstruction(expenses),
    }


def reconstruction(expenses: Sequence[DpEvent]) -> dict[str, Any]:
    """Return what bounds it, and `guess_KAPPA`, the chance to guess right what was guessed with KAPPA."""
    order2 = eps2_replaced(expenses)
    return {
        "epsilon_order2": order2,
        "epsilon_order2_added": eps2_added(expenses),
        "mse_bound": mse_bound(order2),
        "blind": BLIND,
        **{f"guess_{kappa:.3g}": rero(kappa, expenses) for kappa in PRIORS},
    }


def explain(numbers: dict[str, Any]) -> list[str]:
    """Say what bounds mean, for people."""
    if not numbers["mse_bound"]:
        error = "nothing bounds the error of reconstruction from this side: e^epsilon_order2 is beyond all numbers"
    elif numbers["mse_bound"] > BLIND:
        error = "reconstructing a row is no better than a blind guess, for whoever guesses without bias"
    else:
        error = (
            f"numbers from 0 to 1 could be reconstructed to within about {numbers['mse_bound'] ** 0.5:.2g}, not nearer,"
            " by whoever answers without bias"
        )
    guess = f"guess_{PRIORS[2]:.3g}"
    return [
        error,
        f"a value that is guessed right once in ten without the model is guessed right in {numbers[guess]:.3g} with it,"
        " at most, by whoever knows all else about the row",
    ]
