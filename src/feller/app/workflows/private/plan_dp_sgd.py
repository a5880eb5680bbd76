"""Plan DP-SGD: steps, noise multiplier, and the budget of closed-form releases."""

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
from feller.training.couplings import IndependentCoupling
from feller.training.loop import FULL_PRECISION
from feller.training.objectives.one_shot import OneShotObjective


def plan_dp_sgd(privacy: PrivacyConfig, statistics: PrivateStatistics, recipe: Recipe) -> tuple[Recipe, Guarantee]:
    """Choose the noise for the planned steps, or the steps for a noise.

    Raises:
        UsageError: If the recipe cannot be private, counts minutes, or the budget is too small for one step.
    """
    recipe = with_independent_times(recipe)
    ledger, train = statistics.ledger, recipe.train
    may = check_plan(privacy, recipe, ledger)
    n, steps = ledger.n, train.steps or may
    rate = train.batch_size / n
    if privacy.noise is None:
        sigma = calibrate(privacy.max_epsilon, ledger.available_delta, rate, steps, ledger.events)
    else:
        sigma, steps = privacy.noise, min(may, steps)
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
    )
    return replace(recipe, train=replace(train, steps=steps, minutes=None)), guarantee


def check_plan(privacy: PrivacyConfig, recipe: Recipe, ledger: Ledger) -> int:
    """Refuse a training that cannot be private for what is left, before rows are looked at for it.

    Returns:
        The most steps that a noise that is given allows; 0 where none is.

    Raises:
        UsageError: If the recipe cannot be private, counts minutes, or the budget is too small for one step.
    """
    check_private(recipe)
    train, n = recipe.train, ledger.n
    if train.batch_size > n:
        raise UsageError(
            f"at most the {n:,} rows",
            f"{train.batch_size:,}",
            f"Take --train.batch-size {max(1, n // 4)}",
            argument="train.batch_size",
        )
    if train.steps is None and (privacy.noise is None or train.minutes is not None):
        raise UsageError("--steps, for which the noise is planned", "--minutes", argument="minutes")
    if privacy.noise is None:
        return 0
    may = max_steps(privacy.max_epsilon, ledger.available_delta, privacy.noise, train.batch_size / n, ledger.events)
    if not may:
        raise UsageError(
            f"with {privacy.noise:g} a single step spends more than epsilon {privacy.max_epsilon:g}",
            remedy="Take more noise, or smaller batches (--train.batch-size)",
            argument="noise",
        )
    return may


def with_independent_times(recipe: Recipe) -> Recipe:
    """Return a recipe whose times are drawn for each row by itself: on a comb, one row more would move all others."""
    objective: Any = recipe.objective
    time_distribution = getattr(objective, "time_distribution", None)
    return (
        replace(recipe, objective=replace(objective, time_distribution=time_distribution.base))
        if isinstance(time_distribution, Stratified)
        else recipe
    )


def check_private(recipe: Recipe) -> None:
    """Refuse what makes rows look at each other, or learns from more than the rows."""
    objective: Any = recipe.objective
    name, coupling = type(objective).__name__, getattr(objective, "coupling", IndependentCoupling())
    refused: dict[str, bool] = {
        f"the coupling {type(coupling).__name__}, by which rows choose each other's noise": not isinstance(
            coupling, IndependentCoupling
        ),
        "pairs of an older model": recipe.reflow_pairs > 0,
        f"the objective {name}, by which rows look at each other": not objective.has_independent_examples,
        f"the objective {name}, which learns from an older model": "teacher" in objective.requires,
        "a regressor that is trained by steps": objective.family == "regressor" and not objective.is_one_shot,
        "a codebook that follows whole batches, by which rows look at each other": getattr(
            getattr(recipe.architecture, "quantizer", None), "updates_from_batch", False
        ),
        "times on a comb, of which each row moves the others'": isinstance(
            getattr(objective, "time_distribution", None), Stratified
        ),
        "examples that serve several steps": recipe.train.reuse_batches > 1,
        "sharded weights (--train.fsdp), since the gradient of each row needs them whole": recipe.train.fsdp,
        "compiled networks (--train.compile), which the gradients of single rows go around": recipe.train.compile,
        "gradient checkpointing (--train.gradient-checkpointing)": recipe.train.gradient_checkpointing,
        "less than float32 (--train.precision), in which gradients are not cut exactly": recipe.train.precision
        not in FULL_PRECISION,
        "networks that write and find the data, which no noise covers": recipe.aux_networks is not None,
    }
    wrong = next((what for what, found in refused.items() if found), None)
    if wrong is not None:
        raise UsageError(f"private training refuses {wrong}", remedy="Take another recipe")


def check_resumable(guarantee: Guarantee, recipe: Recipe) -> None:
    """Refuse changes with which the ledger of a resumed run would lie."""
    check_private(recipe)
    train = recipe.train
    if train.batch_size != guarantee.batch:
        raise UsageError(
            f"this run's privacy was planned for batches of {guarantee.batch:,}, not {train.batch_size:,}: its ledger"
            " would lie",
            remedy="Leave --train.batch-size out, or start a new run",
        )
    if train.steps is None or train.steps > guarantee.steps:
        raise UsageError(
            f"this run's privacy was planned for {guarantee.steps:,} steps; more would spend more than epsilon"
            f" {guarantee.epsilon:g}",
            remedy="Start a new run",
        )


def plan_closed_form(
    privacy: PrivacyConfig, objective: OneShotObjective, rows: Dataset, schema_cost: SchemaCost
) -> tuple[Ledger, ClosedFormBudget]:
    """Plan what it may cost: all that finding the columns left.

    Args:
        privacy: How private.
        objective: What is found.
        rows: What it is found of; their number alone is looked at.
        schema_cost: What finding the columns cost.

    Raises:
        UsageError: If epsilon or delta do not suit so many rows, the noise of steps is asked for, or the model would
            hold what nobody pays for: the scale of numbers, or how many rows are of each class.
    """
    kind = rows.modality
    modality_as_table = as_table(rows).modality
    if modality_as_table.view(Table) is None and modality_as_table.view(Images) is None:
        raise UsageError(NOT_PUBLIC.format(kind.display_name))
    if kind.conditions:
        raise UsageError(
            f"this recipe would count the rows of each {next(iter(kind.conditions))} without noise",
            remedy="Ask for it by --target, or take another recipe",
        )
    if privacy.noise is not None:
        raise UsageError("this recipe takes no steps to add it to", remedy="Give --epsilon instead", argument="noise")
    n = len(rows)
    ledger = Ledger(schema_cost.expenses, privacy.delta_for(n), n, schema_cost.delta)
    rho = objective.budget_rho(privacy.max_epsilon, ledger)
    return ledger, ClosedFormBudget(
        epsilon=privacy.max_epsilon, delta=ledger.delta, n=n, rho=rho, unsafe_seed=privacy.unsafe_seed
    )
