"""Fit and evaluation of models of a table within a privacy budget."""

import functools
import math
import time
from dataclasses import dataclass, replace
from typing import cast

import torch

from feller.app.workflows.private.plan_dp_sgd import plan_closed_form, plan_dp_sgd
from feller.app.workflows.private.pretrain_on_marginals import pretrain_on_marginals
from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.private_statistics import measure_statistics
from feller.app.workflows.private.table_schema import SchemaCost
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables.modality import Table
from feller.evaluation.tables.table_quality import Numbers, samples_quality
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.poisson_sampling import poisson_batches
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.noise.grid_noise import make_noise
from feller.training.engine import get_engine
from feller.training.loop import TrainState
from feller.training.objective import TrainingContext
from feller.training.objectives.marginal_fitting import MarginalFitting
from feller_papers.private_tables.methods import Method
from feller_papers.private_tables.setting import Budget, Setting
from feller_papers.private_tables.tables import SMALL_ADULT, TableSplit, load_split
from feller_papers.setting import fit_recipe


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A fitted model with its privacy ledger."""

    model: Model
    ledger: Ledger | None
    """None without privacy."""
    seconds: float
    """CPU seconds."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of the samples of a model."""

    metrics: Numbers
    """Metrics of `samples_quality`."""
    nll: float | None
    """Mean negative log-likelihood of a held-out row, in nats; None if the model has no likelihood."""
    nll_error: float | None
    """Standard error of `nll` over rows."""
    epsilon: float | None
    """Spent epsilon, at the delta of the budget; None without privacy."""
    seconds: float
    """CPU seconds of the fit."""

    def metric(self, name: str) -> float:
        """Return a metric by name; NaN if it is missing or not a number."""
        value = self.metrics.get(name)
        return float(value) if isinstance(value, int | float) else math.nan

    @property
    def utility(self) -> float:
        """AUC, or R^2 for a numerical target, on held-out rows, of boosted trees trained on the samples."""
        return self.metric("auc_boosted" if "auc_boosted" in self.metrics else "r2_boosted")


def get_split(setting: Setting, name: str) -> TableSplit:
    """Return a table.

    Raises:
        LookupError: If its file is missing.
    """
    table = load_split(name, setting.data, setting.small_rows if name == SMALL_ADULT else setting.rows)
    if table is None:
        raise LookupError(f"expected the file of {name} in {setting.data}; call `available_tables` first")
    return table


@functools.cache
def fit_method(setting: Setting, name: str, method: Method, budget: Budget, seed: int) -> FittedModel:
    """Return a model fitted to a table, as by `feller fit`."""
    rows, config = get_split(setting, name).train, budget.privacy_config(seed)
    if config is None and isinstance(rows.modality, Table):
        rows = rows.with_modality(rows.modality.with_marginals_of(rows.values))
    recipe, start = method.build_recipe(rows, setting), time.process_time()
    if isinstance(recipe.objective, MarginalFitting):
        model, ledger = _fit_marginals(rows, recipe, recipe.objective, config)
    elif config is None:
        model, ledger = fit_recipe(recipe, rows, recipe.train.steps, seed), None
    else:
        model, ledger = _fit_dp_sgd(rows, method, setting, config, seed)
    return FittedModel(model, ledger, time.process_time() - start)


def _fit_marginals(
    rows: Dataset, recipe: Recipe, objective: MarginalFitting, config: PrivacyConfig | None
) -> tuple[Model, Ledger | None]:
    rows = rows.with_modality(recipe.modality or rows.modality)
    ledger, rho, noise = None, math.inf, make_noise(None)
    if config is not None:
        ledger, budget = plan_closed_form(config, objective, rows, SchemaCost())
        rho, noise = budget.rho, make_noise(config.unsafe_seed, "counts")
    fitted = objective.fit(rows, rho, noise)
    for event in fitted.events if ledger else ():
        ledger = ledger and ledger.add(event)
    return Model.from_spec(replace(recipe.model_spec(rows), architecture=fitted.architecture), fitted.network), ledger


def _fit_dp_sgd(
    rows: Dataset, method: Method, setting: Setting, config: PrivacyConfig, seed: int
) -> tuple[Model, Ledger]:
    marginals_budget = getattr(method.build_recipe(rows, setting).objective, "marginals_budget", 0.0)
    statistics = measure_statistics(config, rows, rows, SchemaCost(), marginals_budget)
    recipe, plan = plan_dp_sgd(config, statistics, method.build_recipe(statistics.dataset, setting))
    rows = statistics.dataset.with_modality(recipe.modality or statistics.dataset.modality)
    batches = poisson_batches(
        {"x_1": rows.values, "given": rows.given},
        plan.batch,
        make_noise(plan.unsafe_seed, "batches", 0, 0),
        rows.modality.encode,
    )
    gradient = DPSGD(
        sigma=plan.sigma, clip=FixedClipNorm(plan.clip), noise=make_noise(plan.unsafe_seed, "training", 0, 0)
    )

    def before(state: TrainState) -> None:
        if statistics.marginal_model is not None and isinstance(rows.modality, Table):
            rng = Rng(seed).fold_in("rehearsal")
            pretrain_on_marginals(
                state,
                recipe.objective.build(TrainingContext()),
                rows.modality,
                statistics.marginal_model,
                recipe.train,
                rng,
                get_engine(),
            )

    model = fit_recipe(recipe, rows, plan.steps, seed, before=before, feed=batches, gradient=gradient)
    return model, statistics.ledger.add(replace(plan.step, steps=plan.steps))


@functools.cache
def evaluate_method(
    setting: Setting, name: str, method: Method, budget: Budget, seed: int, *, raked: bool = True
) -> Evaluation:
    """Return the metrics of a method; there are as many samples as training rows."""
    table, fitted = get_split(setting, name), fit_method(setting, name, method, budget, seed)
    model, rng = fitted.model, Rng(seed).fold_in("judged")
    sampling = None if raked else replace(model.spec.sampling, raking_oversample=0)
    samples = model.sample_dataset(len(table.train), sampling=sampling, rng=rng.fold_in("rows"))
    modality = samples.modality.for_metrics(samples).modality
    views = [rows.modality.for_metrics(rows).with_modality(modality) for rows in (samples, table.train, table.held_out)]
    metrics = samples_quality(views[0], views[1], views[2], Rng(0).fold_in("quality"))
    nll, nll_error = evaluate_nll(setting, name, method, budget, seed)
    epsilon = None if fitted.ledger is None else fitted.ledger.epsilon()
    return Evaluation(metrics, nll, nll_error, epsilon, fitted.seconds)


@functools.cache
def evaluate_nll(
    setting: Setting, name: str, method: Method, budget: Budget, seed: int
) -> tuple[float | None, float | None]:
    """Return mean and standard error of the negative log-likelihood of held-out rows, in nats."""
    return mean_nll(fit_method(setting, name, method, budget, seed).model, get_split(setting, name).held_out)


def mean_nll(model: Model, held_out: Dataset) -> tuple[float | None, float | None]:
    """Return mean and standard error of the negative log-likelihood of rows; None if the model has no likelihood."""
    if not model.family.has_row_likelihood:
        return None, None
    nats = model.nll(held_out.with_modality(model.spec.modality))
    return nats.mean().item(), (nats.std() / len(nats) ** 0.5).item()


def valid_fraction(model: Model, n: int, rng: Rng) -> float:
    """Return the fraction of n samples in which each token belongs to its column."""
    modality = cast(Table, model.spec.modality)
    with torch.no_grad():
        tokens = model.sample_pairs(n, rng)["x_1"]
    return (tokens < torch.tensor(modality.space().vocab_sizes)).all(1).double().mean().item()
