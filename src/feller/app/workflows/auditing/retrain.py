"""Retraining of a run on other rows, with the same recipe, number of steps and privacy."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from feller.app.workflows.auditing.audit_target import AuditTarget
from feller.app.workflows.fine_tuned_run import read_recipe
from feller.app.workflows.private.pretrain_on_marginals import marginal_model_of, pretrain_on_marginals
from feller.app.workflows.private.privacy_config import ClosedFormBudget, Guarantee
from feller.app.workflows.private.private_training import SEED, make_clip_fn
from feller.core.errors import UsageError
from feller.core.gradient import Gradient
from feller.core.pytree import concatenate
from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.modality import Dataset
from feller.data.tables.histories import with_conditions_on_cells
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.spec import ModelSpec
from feller.privacy.accounting.calibration import calibrate
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.dp_sgd.correlated_noise import CorrelatedNoise
from feller.privacy.dp_sgd.poisson_sampling import poisson, random_groups
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.marginals.marginal_model import MarginalModel
from feller.privacy.noise.grid_noise import Noise, make_noise
from feller.training.checkpoint import read_counters
from feller.training.engine import get_engine
from feller.training.loop import BatchFn, TrainState, check_finite, make_train_state, train
from feller.training.objective import Objective, TrainingContext
from feller.training.objectives.one_shot import OneShotObjective

Wrap = Callable[[DPSGD], Gradient]
"""Function from a DP-SGD gradient estimator to a gradient estimator that observes or modifies it."""


def _plain(gradient: DPSGD) -> Gradient:
    return gradient


@dataclass(frozen=True, eq=False)
class Retrainer:
    """Retrains a run with its recorded settings and with the noisy statistics that the run has already released."""

    description: ModelSpec
    recipe: Recipe
    privacy_plan: Guarantee | ClosedFormBudget | None
    ledger: Ledger | None
    steps: int
    """Number of training steps of the run."""
    seconds: float
    """Training time of the run, in seconds."""
    marginal_model: MarginalModel | None
    """Graphical model fitted to the noisy counts of the run, for pretraining; None if the run has no noisy counts."""

    @property
    def objective(self) -> Objective:
        """Training objective of the run."""
        return self.recipe.objective.build(TrainingContext())

    def train(
        self,
        rows: Dataset,
        seed: int,
        *,
        wrap: Wrap = _plain,
        on_progress: Callable[[float], None] = lambda fraction: None,
    ) -> Model:
        """Train a model on the given rows, without writing files.

        Args:
            rows: Training rows, in the modality of the model.
            seed: Random seed of everything except the privacy noise, which is new in each training.
            wrap: Function that wraps the DP-SGD gradient estimator.
            on_progress: Function called with the completed fraction of the training.
        """
        if self.recipe.objective.is_one_shot:
            return self._fit_closed_form(cast(OneShotObjective, self.recipe.objective), rows, seed)
        privacy_plan, engine = self.privacy_plan, get_engine()
        network = self.description.build(Rng(seed)).to(engine.device)
        config = replace(self.recipe.train, steps=self.steps, minutes=None)
        state, gradient, rng = make_train_state(network, config), None, Rng(seed)
        if isinstance(privacy_plan, Guarantee):
            self._pretrain(state, seed)
            batch_fn = _poisson_batches(rows, privacy_plan, self._noise(seed, "batches"))
            noise = self._noise(seed, "training")
            correlation = CorrelatedNoise(privacy_plan.correlation) if privacy_plan.bands > 1 else None
            clip = make_clip_fn(privacy_plan)
            gradient = wrap(DPSGD(sigma=privacy_plan.sigma, clip=clip, noise=noise, correlation=correlation))
            rng = Rng(int.from_bytes(self._noise(seed, "examples").random_bytes(SEED)))
        else:
            batch_fn = batch_loader(rows, config.batch_size, Rng(seed))
        for report in train(state, self.objective, batch_fn, config, rng=rng, engine=engine, gradient=gradient):
            if gradient is None:
                check_finite(report)
            on_progress(report.progress)
        state.ema.copy_to(state.network)
        return Model.from_spec(self.description, state.network.eval())

    def for_rows(self, n: int) -> "Retrainer":
        """Return a retrainer for n rows; its noise multiplier is recalibrated so that training spends the same epsilon.

        Raises:
            UsageError: If the batch size exceeds n.
        """
        if not isinstance(self.privacy_plan, Guarantee) or self.ledger is None:
            return self
        batch, ledger = self.privacy_plan.batch, self.ledger
        bands = self.privacy_plan.bands
        if batch * bands > n:
            expected = f"at most {n // bands:,}, given the number of training rows of a shadow model"
            raise UsageError(
                f"needs a batch size of {expected}; found {batch:,}", remedy="Omit --shadows", argument="shadows"
            )
        other_events = [event for event in ledger.events if not isinstance(event, PoissonSubsampledGaussian)]
        sigma = calibrate(
            ledger.epsilon(),
            ledger.available_delta,
            batch / n,
            self.steps,
            other_events,
            bands=bands,
        )
        return replace(self, privacy_plan=replace(self.privacy_plan, n=n, sigma=sigma))

    def _noise(self, seed: int, purpose: str) -> Noise:
        return make_noise(None if self.privacy_plan is None else self.privacy_plan.unsafe_seed, "again", seed, purpose)

    def _pretrain(self, state: TrainState, seed: int) -> None:
        table = with_conditions_on_cells(self.description.modality)
        if self.marginal_model is not None and table is not None:
            pretrain_on_marginals(
                state,
                self.objective,
                table,
                self.marginal_model,
                self.recipe.train,
                Rng(seed).fold_in("law"),
                get_engine(),
            )

    def _fit_closed_form(self, objective: OneShotObjective, rows: Dataset, seed: int) -> Model:
        rho = self.privacy_plan.rho if isinstance(self.privacy_plan, ClosedFormBudget) else math.inf
        release = objective.fit(rows, rho, self._noise(seed, "counts"))
        return Model.from_spec(
            replace(self.description, architecture=release.architecture), release.network.to(get_engine().device).eval()
        )


def make_retrainer(it: AuditTarget) -> Retrainer:
    """Return the retrainer of a run.

    Raises:
        UsageError: If the run started from the weights of another run, or if this program runs in several processes.
    """
    run, record, description = it.run, it.record, it.model.spec
    if record.start_from:
        raise UsageError(
            f"started from the weights of {record.start_from}, which may have been trained on the same rows",
            remedy="Omit --shadows and --canaries",
            file=run.path,
        )
    if get_engine().world_size > 1:
        raise UsageError("retraining needs a single process", remedy="Run the audit in one process")
    counters = read_counters(run)
    table = with_conditions_on_cells(description.modality)
    marginal_model = (
        marginal_model_of(table) if table is not None and isinstance(record.provenance.private, Guarantee) else None
    )
    recipe, steps, seconds = read_recipe(run), int(counters["step"]), float(counters["seconds"])
    return Retrainer(description, recipe, record.provenance.private, it.ledger, steps, seconds, marginal_model)


def concatenate_datasets(first: Dataset, second: Dataset) -> Dataset:
    """Concatenate the examples of two datasets; of their properties, keep only those that the model predicts."""
    values, cond = (concatenate(a, b) for a, b in ((first.values, second.values), (first.given, second.given)))
    names = () if first.target is None else first.target.names
    targets = {name: torch.cat([first.properties[name], second.properties[name]]) for name in names}
    return Dataset(values, cond, first.modality, properties=targets, target=first.target)


def _poisson_batches(rows: Dataset, guarantee: Guarantee, noise: Noise) -> BatchFn:
    """Return a loader of Poisson batches at the planned sampling rate, for any number of rows."""
    rate = guarantee.batch / guarantee.n
    groups = random_groups(len(rows), guarantee.bands, noise) if guarantee.bands > 1 else None

    def batch(step: int, of_batch: slice) -> dict[str, Any]:
        index = poisson(len(rows), rate, noise) if groups is None else groups.poisson(step, rate, noise)
        subset = rows.subset(index)
        return {"x_1": rows.modality.encode(subset.values), "given": subset.given}

    return batch
