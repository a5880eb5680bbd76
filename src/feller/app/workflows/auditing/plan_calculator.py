"""Calculation of the privacy of a training plan, without a run: epsilon and bounds on reconstruction."""

from collections.abc import Sequence
from typing import Any

from feller.core.errors import UsageError, check_number
from feller.privacy.accounting.accountant import compute_epsilon, rdp_epsilon
from feller.privacy.accounting.dp_events import DpEvent, PoissonSubsampledGaussian
from feller.privacy.accounting.training_plan import TrainingPlan
from feller.privacy.accounting.user_level import user_epsilon
from feller.privacy.leakage.reconstruction_bounds import eps2_added, eps2_replaced, mse_bound
from feller.privacy.leakage.rero import rero

PRIORS = (1 / 256, 0.02, 0.1, 0.5)
"""Probabilities of guessing a value without the model. For each, the probability with the model is bounded."""
BLIND = 1 / 12
"""Mean squared error of the constant guess 1/2 for values that are uniformly distributed in [0, 1]."""
MAX_NOISE = 1e6
"""Maximum noise multiplier of a plan."""
MIN_NOISE = 1e-3
"""Minimum noise multiplier of a plan; below it, there is practically no privacy."""


def planned_event(noise: float | None, rate: float | None, steps: int | None) -> PoissonSubsampledGaussian:
    """Return the DP event of a training plan from noise multiplier, sampling rate and number of steps.

    Raises:
        UsageError: If a value is missing or out of range.
    """
    if noise is None or rate is None or steps is None:
        raise UsageError(expected="--noise, --rate and --steps, for example --noise 1.1 --rate 0.01 --steps 1000")
    if noise > MAX_NOISE:
        raise UsageError(f"at most {MAX_NOISE:g}", f"{noise:g}", "Use a smaller noise multiplier", argument="noise")
    if not noise > 0:
        raise UsageError(
            "above 0", f"{noise:g}", "Add noise; without it there is no privacy guarantee", argument="noise"
        )
    if noise < MIN_NOISE:
        raise UsageError(
            f"at least {MIN_NOISE:g}",
            f"{noise:g}, practically no noise",
            "Use a larger noise multiplier",
            argument="noise",
        )
    check_number("rate", rate, gt=0, le=1)
    check_number("steps", steps, ge=1)
    return PoissonSubsampledGaussian("training", noise, rate, steps)


def bounds(expenses: Sequence[DpEvent], delta: float, rows_per_user: int | None = None) -> dict[str, Any]:
    """Return the privacy metrics of planned DP events by name: epsilon at a given delta, and reconstruction bounds.

    The function `reconstruction` describes the reconstruction bounds. `epsilon_user` is the epsilon of all rows of a
    user with at most `rows_per_user` rows.
    """
    users = {} if rows_per_user is None else {"epsilon_user": user_epsilon(expenses, rows_per_user, delta)}
    epsilon = compute_epsilon(expenses, delta)
    return {
        "epsilon": epsilon,
        "delta": delta,
        "epsilon_pld": epsilon,
        "epsilon_rdp": rdp_epsilon(expenses, delta),
        **users,
        **reconstruction(expenses),
    }


def describe_plan(plan: TrainingPlan) -> dict[str, int | float]:
    """Return batch size, steps and noise of a plan by name.

    `step_noise` and `total_noise` are the standard deviations of the noise of one mean gradient and of the mean of all
    gradients, in units of the clipping norm.
    """
    return {
        "batch_size": plan.batch,
        "steps": plan.steps,
        "noise": plan.sigma,
        "step_noise": plan.step_noise,
        "total_noise": plan.total_noise,
    }


def reconstruction(expenses: Sequence[DpEvent]) -> dict[str, Any]:
    """Return bounds on reconstruction attacks by name, for planned DP events.

    `guess_0.1` is an upper bound on the probability of guessing, with the model, a value of prior probability 0.1.
    `mse_bound` is a lower bound on the mean squared error of an unbiased estimate of a value in [0, 1], and `blind` the
    mean squared error of the constant guess 1/2. `epsilon_order2` and `epsilon_order2_added` are the Rényi divergences
    of order 2, in nats, for one replaced row and for one row added or removed.
    """
    order2 = eps2_replaced(expenses)
    return {
        "epsilon_order2": order2,
        "epsilon_order2_added": eps2_added(expenses),
        "mse_bound": mse_bound(order2),
        "blind": BLIND,
        **{f"guess_{kappa:.3g}": rero(kappa, expenses) for kappa in PRIORS},
    }


def explain(numbers: dict[str, Any], unit: str = "row") -> list[str]:
    """Return sentences that state the bounds on reconstruction in `numbers`, the result of `bounds`.

    `unit` is the noun for what is protected, such as person.
    """
    if not numbers["mse_bound"]:
        error_sentence = "the reconstruction error has no lower bound from Rényi DP: e^epsilon_order2 overflows"
    elif numbers["mse_bound"] > BLIND:
        error_sentence = f"an unbiased attacker reconstructs a {unit} no better than by guessing its mean"
    else:
        error_sentence = (
            "an unbiased attacker reconstructs values in [0, 1] with a root mean squared error of at least"
            f" {numbers['mse_bound'] ** 0.5:.2g}"
        )
    name = f"guess_{PRIORS[2]:.3g}"
    return [
        error_sentence,
        f"an attacker who knows all other values of a {unit} and guesses one with probability 0.1 without the model"
        f" guesses it with probability at most {numbers[name]:.3g} with the model",
    ]
