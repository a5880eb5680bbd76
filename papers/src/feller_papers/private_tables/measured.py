"""Models of a table within a budget, and what their rows are worth."""

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
from feller_papers.private_tables.methods import Way
from feller_papers.private_tables.setting import Budget, Setting
from feller_papers.private_tables.tables import FEW, Posed, posed
from feller_papers.setting import fit_recipe


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model, and what it spent."""

    model: Model
    ledger: Ledger | None
    """None: it is not private."""
    seconds: float
    """Of a processor."""


@dataclass(frozen=True, eq=False)
class Measured:
    """How good the rows of a model are."""

    numbers: Numbers
    """Those of `samples_quality`."""
    nll: float | None
    """What a held-out row takes in nats; None where a model cannot tell."""
    error: float | None
    """Standard error of that mean."""
    epsilon: float | None
    """What was spent, at the delta of the budget."""
    seconds: float
    """Of a processor, to fit."""

    def number(self, name: str) -> float:
        """Return one of the numbers; not a number where there is none."""
        value = self.numbers.get(name)
        return float(value) if isinstance(value, int | float) else math.nan

    @property
    def worth(self) -> float:
        """How well boosted trees that learn from the rows tell real ones: area under ROC, or share of the variance."""
        return self.number("auc_boosted" if "auc_boosted" in self.numbers else "r2_boosted")


def table_of(setting: Setting, name: str) -> Posed:
    """Return a table that is known to be there."""
    found = posed(name, setting.data, setting.small if name == FEW else setting.rows)
    if found is None:
        raise LookupError(f"expected the file of {name} in {setting.data}; look with `there` first")
    return found


@functools.cache
def fitted(setting: Setting, name: str, way: Way, budget: Budget, seed: int) -> Fitted:
    """Fit a model to a table, as `feller fit` does."""
    rows, wish = table_of(setting, name).learned, budget.wish(seed)
    if wish is None and isinstance(rows.modality, Table):
        rows = rows.with_modality(rows.modality.with_marginals_of(rows.values))
    recipe, begun = way.of(rows, setting), time.process_time()
    if isinstance(recipe.objective, MarginalFitting):
        model, ledger = _counted(rows, recipe, recipe.objective, wish)
    elif wish is None:
        model, ledger = fit_recipe(recipe, rows, recipe.train.steps, seed), None
    else:
        model, ledger = _trained(rows, way, setting, wish, seed)
    return Fitted(model, ledger, time.process_time() - begun)


def _counted(
    rows: Dataset, recipe: Recipe, counting: MarginalFitting, wish: PrivacyConfig | None
) -> tuple[Model, Ledger | None]:
    rows = rows.with_modality(recipe.modality or rows.modality)
    ledger, rho, noise = None, math.inf, make_noise(None)
    if wish is not None:
        ledger, allowance = plan_closed_form(wish, counting, rows, SchemaCost())
        rho, noise = allowance.rho, make_noise(wish.unsafe_seed, "counts")
    told = counting.fit(rows, rho, noise)
    for expense in told.events if ledger else ():
        ledger = ledger and ledger.add(expense)
    return Model.from_spec(replace(recipe.model_spec(rows), architecture=told.architecture), told.network), ledger


def _trained(rows: Dataset, way: Way, setting: Setting, wish: PrivacyConfig, seed: int) -> tuple[Model, Ledger]:
    counted = getattr(way.of(rows, setting).objective, "marginals_budget", 0.0)
    guarded = measure_statistics(wish, rows, rows, SchemaCost(), counted)
    recipe, planned = plan_dp_sgd(wish, guarded, way.of(guarded.dataset, setting))
    rows = guarded.dataset.with_modality(recipe.modality or guarded.dataset.modality)
    draw = poisson_batches(
        {"x_1": rows.values, "given": rows.given},
        planned.batch,
        make_noise(planned.unsafe_seed, "batches", 0, 0),
        rows.modality.encode,
    )
    gradient = DPSGD(
        sigma=planned.sigma, clip=FixedClipNorm(planned.clip), noise=make_noise(planned.unsafe_seed, "training", 0, 0)
    )

    def before(learner: TrainState) -> None:
        if guarded.marginal_model is not None and isinstance(rows.modality, Table):
            lessons = Rng(seed).fold_in("rehearsal")
            pretrain_on_marginals(
                learner,
                recipe.objective.build(TrainingContext()),
                rows.modality,
                guarded.marginal_model,
                recipe.train,
                lessons,
                get_engine(),
            )

    model = fit_recipe(recipe, rows, planned.steps, seed, before=before, feed=draw, gradient=gradient)
    return model, guarded.ledger.add(replace(planned.step, steps=planned.steps))


@functools.cache
def measured(setting: Setting, name: str, way: Way, budget: Budget, seed: int, *, raked: bool = True) -> Measured:
    """Fit a model, and compare as many of its rows as it learned from with those and with held-out ones."""
    table, found = table_of(setting, name), fitted(setting, name, way, budget, seed)
    model, draws = found.model, Rng(seed).fold_in("judged")
    sampling = None if raked else replace(model.spec.sampling, raking_oversample=0)
    drawn = model.sample_dataset(len(table.learned), sampling=sampling, rng=draws.fold_in("rows"))
    kind = drawn.modality.for_metrics(drawn).modality
    seen = [one.modality.for_metrics(one).with_modality(kind) for one in (drawn, table.learned, table.held_out)]
    numbers = samples_quality(seen[0], seen[1], seen[2], Rng(0).fold_in("quality"))
    nll, error = surprised(setting, name, way, budget, seed)
    spent = None if found.ledger is None else found.ledger.epsilon()
    return Measured(numbers, nll, error, spent, found.seconds)


@functools.cache
def surprised(setting: Setting, name: str, way: Way, budget: Budget, seed: int) -> tuple[float | None, float | None]:
    """Fit a model, and return what a held-out row takes in nats, and the standard error."""
    return surprise_of(fitted(setting, name, way, budget, seed).model, table_of(setting, name).held_out)


def surprise_of(model: Model, held_out: Dataset) -> tuple[float | None, float | None]:
    """Return what a held-out row takes in nats, and the standard error; None where a model cannot tell."""
    if not model.family.has_row_likelihood:
        return None, None
    nats = model.nll(held_out.with_modality(model.spec.modality))
    return nats.mean().item(), (nats.std() / len(nats) ** 0.5).item()


def allowed_share(model: Model, n: int, draws: Rng) -> float:
    """Return the share of n rows of a model whose words all are of their columns, where others may come."""
    kind = cast(Table, model.spec.modality)
    with torch.no_grad():
        tokens = model.sample_pairs(n, draws)["x_1"]
    return (tokens < torch.tensor(kind.space().vocab_sizes)).all(1).double().mean().item()
