"""Planning of a private fit: number of steps and noise multiplier of DP-SGD, or budget of a one-shot release."""

import warnings
from dataclasses import replace
from typing import Any

from feller.app.workflows.private.privacy_config import ClosedFormBudget, Guarantee, PrivacyConfig
from feller.app.workflows.private.private_statistics import NOT_PUBLIC, PrivateStatistics
from feller.app.workflows.private.table_schema import SchemaCost
from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.models.recipes.recipe import Recipe
from feller.paths.time_distributions import Stratified
from feller.privacy.accounting.calibration import calibrate, max_steps
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.noise.banded_matrix import BandedToeplitz, optimal_bands
from feller.training.couplings import IndependentCoupling
from feller.training.loop import FULL_PRECISION
from feller.training.objectives.one_shot import OneShotObjective

MAX_AUTO_BANDS = 64
"""Maximum number of bands that is chosen automatically; the noise of as many steps is held in memory."""


def plan_dp_sgd(privacy: PrivacyConfig, statistics: PrivateStatistics, recipe: Recipe) -> tuple[Recipe, Guarantee]:
    """Choose the noise multiplier and the number of steps of DP-SGD, and return the final recipe and its guarantee.

    If the options contain a noise multiplier, the number of steps is limited so that epsilon is not exceeded. Otherwise
    the noise multiplier is calibrated to the number of steps and epsilon.

    Raises:
        UsageError: If the recipe cannot be private, has a time limit, or the budget is too small for one step.
    """
    recipe = with_independent_rows(recipe)
    ledger, train = statistics.ledger, recipe.train
    limit = check_plan(privacy, recipe, ledger)
    n, steps = ledger.n, train.steps or limit
    rate = train.batch_size / n
    if privacy.noise is None:
        correlation, sigma = calibrate_noise(privacy, ledger, rate, steps)
    else:
        sigma, steps = privacy.noise, min(limit, steps)
        correlation = optimal_bands(min(privacy.bands or 1, steps), steps)
    if correlation.bands > 1:
        _warn_about_step_noise(privacy, ledger, rate, steps, sigma * correlation.step_noise(steps), train.lr)
    guarantee = Guarantee(
        epsilon=privacy.max_epsilon,
        delta=ledger.delta,
        n=n,
        sigma=sigma,
        clip=privacy.clip,
        adaptive=privacy.adaptive,
        batch=train.batch_size,
        steps=steps,
        by_noise=privacy.noise is not None,
        unsafe_seed=privacy.unsafe_seed,
        correlation=correlation,
    )
    return replace(recipe, train=replace(train, steps=steps, minutes=None)), guarantee


def calibrate_noise(privacy: PrivacyConfig, ledger: Ledger, rate: float, steps: int) -> tuple[BandedToeplitz, float]:
    """Choose how the noise is correlated over steps; return the matrix and the calibrated noise multiplier.

    With more bands, the noise of the steps cancels better, but rows are amplified less by sampling. If the options
    leave the number of bands open, it is doubled while the noise of the gradient sums (root mean square over the
    steps) decreases.

    Args:
        privacy: Privacy options.
        ledger: Ledger with the privacy cost so far.
        rate: Sampling rate.
        steps: Number of training steps.
    """

    def calibrated(bands: int) -> tuple[BandedToeplitz, float]:
        sigma = calibrate(privacy.max_epsilon, ledger.available_delta, rate, steps, ledger.events, bands=bands)
        return optimal_bands(bands, steps), sigma

    def sum_noise(plan: tuple[BandedToeplitz, float]) -> float:
        return plan[1] * plan[0].rms_sum_noise(steps)

    best = calibrated(privacy.bands or 1)
    bands = 2
    while privacy.bands is None and bands <= min(max_bands(rate, steps), MAX_AUTO_BANDS):
        candidate = calibrated(bands)
        if sum_noise(candidate) >= sum_noise(best):
            break
        best, bands = candidate, 2 * bands
    return best


def _warn_about_step_noise(
    privacy: PrivacyConfig, ledger: Ledger, rate: float, steps: int, step_noise: float, lr: float
) -> None:
    """Warn that a single step has more noise than without correlation, which makes adaptive optimizers slower."""
    if privacy.noise is not None:
        return
    ratio = step_noise / calibrate(privacy.max_epsilon, ledger.available_delta, rate, steps, ledger.events)
    if ratio > 1:
        warnings.warn(
            f"with correlated noise, the noise of one step is {ratio:.1f} times as large, but less is left in the sum"
            f" over steps; Adam divides by the noise of a step, so use a larger learning rate, up to"
            f" --train.lr {lr * ratio:.1g}",
            stacklevel=2,
        )


def max_bands(rate: float, steps: int) -> int:
    """Return the maximum number of bands: the groups of rows must be at least as large as a batch."""
    return min(steps, int(1 / rate * (1 + 1e-12)))


def check_plan(privacy: PrivacyConfig, recipe: Recipe, ledger: Ledger) -> int:
    """Check that the privacy budget allows the training steps of a recipe, before rows are read.

    Args:
        privacy: Privacy options.
        recipe: Recipe with the planned batch size and number of steps.
        ledger: Ledger with the privacy cost so far.

    Returns:
        Maximum number of steps for a given noise multiplier; 0 if no noise multiplier is given.

    Raises:
        UsageError: If the recipe cannot be private, has a time limit, or the budget is too small for one step.
    """
    check_private(recipe)
    train, n = recipe.train, ledger.n
    if train.batch_size > n:
        raise UsageError(
            f"at most {n:,}, the number of rows",
            f"{train.batch_size:,}",
            f"Use --train.batch-size {max(1, n // 4)}",
            argument="train.batch_size",
        )
    if train.steps is None and (privacy.noise is None or train.minutes is not None):
        raise UsageError(
            "--steps, because the noise is calibrated to the number of steps", "--minutes", argument="minutes"
        )
    bands, rate = privacy.bands or 1, train.batch_size / n
    if bands > (limit := max_bands(rate, train.steps or bands)):
        raise UsageError(
            f"at most {limit:,}: the number of steps, or of batches of {train.batch_size:,} among {n:,} rows",
            f"{bands:,}",
            "Use fewer bands, or --bands auto",
            argument="bands",
        )
    if privacy.noise is None:
        return 0
    limit = max_steps(privacy.max_epsilon, ledger.available_delta, privacy.noise, rate, ledger.events, bands=bands)
    if not limit:
        raise UsageError(
            f"with noise multiplier {privacy.noise:g}, a single step spends more than epsilon {privacy.max_epsilon:g}",
            remedy="Use a larger noise multiplier, or a smaller batch size (--train.batch-size)",
            argument="noise",
        )
    return limit


def with_independent_rows(recipe: Recipe) -> Recipe:
    """Return a recipe in which each training example is independent of other rows.

    Stratified times are replaced, because they depend on the number of rows in the batch; held-out rows, which are
    private too, do not select the weights.
    """
    recipe = replace(recipe, train=replace(recipe.train, keep_best=False))
    objective: Any = recipe.objective
    time_distribution = getattr(objective, "time_distribution", None)
    return (
        replace(recipe, objective=replace(objective, time_distribution=time_distribution.base))
        if isinstance(time_distribution, Stratified)
        else recipe
    )


def check_private(recipe: Recipe) -> None:
    """Raise an error if the loss of one row depends on other rows, or if the recipe uses other data or models."""
    objective: Any = recipe.objective
    name, coupling = type(objective).__name__, getattr(objective, "coupling", IndependentCoupling())
    refused: dict[str, bool] = {
        f"the coupling {type(coupling).__name__}, which pairs rows across the batch": not isinstance(
            coupling, IndependentCoupling
        ),
        "reflow pairs of a teacher model": recipe.reflow_pairs > 0,
        f"the objective {name}, whose per-example losses depend on other rows": not objective.has_independent_examples,
        f"the objective {name}, which needs a teacher model": "teacher" in objective.requires,
        "a regressor trained by gradient steps": objective.family == "regressor" and not objective.is_one_shot,
        "a codebook with EMA updates from the batch, which mix rows": getattr(
            getattr(recipe.architecture, "quantizer", None), "updates_from_batch", False
        ),
        "times stratified over the batch, which depend on the other rows": isinstance(
            getattr(objective, "time_distribution", None), Stratified
        ),
        "batches reused for several steps": recipe.train.reuse_batches > 1,
        "sharded weights (--train.fsdp), because per-example gradients need full weights": recipe.train.fsdp,
        "compiled networks (--train.compile), which per-example gradients bypass": recipe.train.compile,
        "gradient checkpointing (--train.gradient-checkpointing)": recipe.train.gradient_checkpointing,
        "a channels-last layout (--train.channels-last)": recipe.train.channels_last,
        "a precision below float32 (--train.precision), in which gradient clipping is inexact": recipe.train.precision
        not in FULL_PRECISION,
        "auxiliary networks, which are trained on the rows without noise": recipe.aux_networks is not None,
    }
    unsupported = next((feature for feature, is_used in refused.items() if is_used), None)
    if unsupported is not None:
        raise UsageError(f"private training does not support {unsupported}", remedy="Use another recipe")


def check_resumable(guarantee: Guarantee, recipe: Recipe) -> None:
    """Raise an error if the batch size or number of steps of a resumed run would invalidate its ledger.

    `guarantee` is the guarantee that was planned when the run started; `recipe` contains the settings now.
    """
    check_private(recipe)
    train = recipe.train
    if train.batch_size != guarantee.batch:
        raise UsageError(
            f"the privacy of this run was planned for a batch size of {guarantee.batch:,}; found {train.batch_size:,},"
            " which would invalidate its ledger",
            remedy="Omit --train.batch-size, or start a new run",
        )
    if train.steps is None or train.steps > guarantee.steps:
        raise UsageError(
            f"the privacy of this run was planned for {guarantee.steps:,} steps; more would exceed epsilon"
            f" {guarantee.epsilon:g}",
            remedy="Start a new run",
        )


def check_no_step_options(privacy: PrivacyConfig) -> None:
    """Raise an error if the options set the noise of gradient steps, for a recipe without gradient steps."""
    if privacy.noise is not None:
        raise UsageError(
            "this recipe has no gradient steps to add noise to", remedy="Use --epsilon instead", argument="noise"
        )
    if privacy.bands != 1:
        raise UsageError(
            "this recipe has no gradient steps whose noise could be correlated", remedy="Omit --bands", argument="bands"
        )


def plan_closed_form(
    privacy: PrivacyConfig, objective: OneShotObjective, rows: Dataset, schema_cost: SchemaCost
) -> tuple[Ledger, ClosedFormBudget]:
    """Plan a one-shot release with the budget left after the schema search; return the ledger and the planned budget.

    The ledger contains the cost of the schema search. Of the rows, only their number and modality are used.

    Args:
        privacy: Privacy options.
        objective: One-shot objective, which determines how much of the budget it spends.
        rows: Dataset of the fit.
        schema_cost: Cost of the schema search.

    Raises:
        UsageError: If epsilon or delta is unsuitable for the number of rows, a noise multiplier is given, or the model
            would store scales or class frequencies without noise.
    """
    modality = rows.modality
    modality_as_table = as_table(rows).modality
    if modality_as_table.view(Table) is None and modality_as_table.view(Images) is None:
        raise UsageError(NOT_PUBLIC.format(modality.display_name))
    if modality.conditions:
        condition = next(iter(modality.conditions))
        raise UsageError(
            f"this recipe would store the number of rows of each {condition} without noise",
            remedy=f"Pass the {condition} column as --target, or use another recipe",
        )
    check_no_step_options(privacy)
    n = len(rows)
    ledger = Ledger(schema_cost.expenses, privacy.delta_for(n), n, schema_cost.delta)
    rho = objective.budget_rho(privacy.max_epsilon, ledger)
    return ledger, ClosedFormBudget(
        epsilon=privacy.max_epsilon, delta=ledger.delta, n=n, rho=rho, unsafe_seed=privacy.unsafe_seed
    )
