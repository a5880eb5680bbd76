"""What a fit may know of its data, and how it learns from them: openly, or privately."""

import abc
import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from feller.app.modalities.registration import load_modality
from feller.app.reporter import Reporter
from feller.app.workflows.fitting.plan_fit import FitPlan, RecipeRequest, with_recipe_schema
from feller.app.workflows.fitting.run_training import TrainingInputs, TrainingJob
from feller.app.workflows.run_config import FitRecord, data_fingerprint
from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.batches import batch_loader, shuffled_loader
from feller.data.loading.dataset_reader import read
from feller.data.loading.in_memory import DataSource
from feller.data.modality import Dataset, Modality
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.spec import ModelSpec
from feller.privacy.accounting.dp_events import DpEvent
from feller.privacy.noise.grid_noise import Noise, make_noise
from feller.training.engine import Engine
from feller.training.loop import BatchFn
from feller.training.objective import Objective

FEW = 10
"""Examples below which a model learns them by heart and nothing else."""


class DataAccess(abc.ABC):
    """What a fit may know of its data, and how it learns from them; the fit itself is the same for all."""

    clock_resolution: float = 0.0
    """Seconds to whose multiples the time of a training is rounded up in what is written."""

    keeps_copies: bool = True
    """Whether the run may keep a copy of data that are in memory."""

    def record_spending(
        self, run: Run, engine: Engine, *, begun: bool = False
    ) -> contextlib.AbstractContextManager[object]:
        """Return a block after which what was spent in it is written down, also where the fit is refused.

        Args:
            run: The folder.
            engine: Devices and processes.
            begun: Whether the run has the folder, so that its ledger counts all that was spent.
        """
        return contextlib.nullcontext()

    @abc.abstractmethod
    def read(
        self,
        record: FitRecord,
        like: Modality | None,
        request: RecipeRequest,
        reporter: Reporter,
        in_memory_data: DataSource | None = None,
    ) -> Dataset:
        """Read the data, or take those in memory; `like` is the modality of the model that the fit starts from."""

    @abc.abstractmethod
    def check_data(self, record: FitRecord, dataset: Dataset, reporter: Reporter) -> Dataset:
        """Refuse what cannot be learned from, and return data whose modality knows what it may of them."""

    def visible_to(self, recipe: str, dataset: Dataset) -> Dataset:
        """Return what a recipe may look at."""
        return dataset

    @abc.abstractmethod
    def check_recipe(self, record: FitRecord, name: str, recipe: Recipe, start: Run | None, dataset: Dataset) -> None:
        """Refuse a recipe that learns from the data otherwise than it may."""

    @abc.abstractmethod
    def add_fingerprint(self, record: FitRecord, dataset: Dataset, recipe: Recipe) -> FitRecord:
        """Return the record with the fingerprint of the data, how they are split, and notes on them."""

    @abc.abstractmethod
    def plan(self, plan: FitPlan, request: RecipeRequest) -> FitPlan:
        """Return the plan with what the model may hold of the data, and with what that costs."""

    def resume(self, run: Run, plan: FitPlan, spec: ModelSpec) -> FitPlan:
        """Return the plan of a run that goes on, with what its model already holds of the data."""
        return plan

    def check_setup(
        self, record: FitRecord, objective: Objective, network: nn.Module, data: Dataset, engine: Engine
    ) -> None:
        """Refuse what cannot be trained so, once the network is there."""
        if record.watched:
            raise UsageError(
                "watches a private training; it goes with --epsilon, and with recipes that take steps", argument="audit"
            )

    @property
    def privacy_text(self) -> str:
        """What is promised about the data, after what is trained, for people."""
        return ""

    @property
    def is_exhausted(self) -> bool:
        """Whether no further step may be taken."""
        return False

    @abc.abstractmethod
    def begin_session(self, run: Run, steps_taken: int, engine: Engine) -> None:
        """Hear that a sitting begins in a folder that may be written to, after so many steps."""

    @abc.abstractmethod
    def pretrain(self, job: TrainingJob, seed: int, engine: Engine, reporter: Reporter) -> None:
        """Teach a new network what is known of the data before it sees them."""

    @abc.abstractmethod
    def training_inputs(
        self, run: Run, plan: FitPlan, job: TrainingJob, engine: Engine, reporter: Reporter
    ) -> TrainingInputs:
        """Return what the steps of a sitting are made of; it may take a while."""

    def closed_form_budget(self) -> tuple[float, Noise]:
        """Return what a look at all rows may cost, in zero-concentrated privacy, and its noise."""
        return math.inf, make_noise(None)

    @abc.abstractmethod
    def charge(self, run: Run, expenses: Sequence[DpEvent]) -> None:
        """Write down what a look at all rows costs."""


class OpenData(DataAccess):
    """Data that may be told of."""

    def check_recipe(self, record: FitRecord, name: str, recipe: Recipe, start: Run | None, dataset: Dataset) -> None:
        """Take any."""

    def begin_session(self, run: Run, steps_taken: int, engine: Engine) -> None:
        """Do nothing."""

    def pretrain(self, job: TrainingJob, seed: int, engine: Engine, reporter: Reporter) -> None:
        """Teach nothing."""

    def charge(self, run: Run, expenses: Sequence[DpEvent]) -> None:
        """Charge nothing."""

    def read(
        self,
        record: FitRecord,
        like: Modality | None,
        request: RecipeRequest,
        reporter: Reporter,
        in_memory_data: DataSource | None = None,
    ) -> Dataset:
        return read(
            record.data if in_memory_data is None else in_memory_data,
            schema=record.config.data_loading.schema,
            **read_options(record, like),
        )

    def check_data(self, record: FitRecord, dataset: Dataset, reporter: Reporter) -> Dataset:
        dataset = dataset.modality.with_statistics(dataset)
        check_not_constant(dataset)
        return dataset

    def add_fingerprint(self, record: FitRecord, dataset: Dataset, recipe: Recipe) -> FitRecord:
        fingerprint = data_fingerprint(with_recipe_schema(dataset, recipe), None)
        return record.with_provenance(fingerprint=fingerprint, notes=(*dataset.notes, *_few(dataset)))

    def plan(self, plan: FitPlan, request: RecipeRequest) -> FitPlan:
        return replace(plan, dataset=plan.dataset.with_modality(plan.recipe.modality or plan.dataset.modality))

    def training_inputs(
        self, run: Run, plan: FitPlan, job: TrainingJob, engine: Engine, reporter: Reporter
    ) -> TrainingInputs:
        """Return plain means over batches of shuffled examples, or of pairs that the older model draws."""
        rng = Rng(plan.record.seed)
        return TrainingInputs(batches=make_batches(plan.recipe, job.data, plan.start_model, rng, reporter), rng=rng)


def make_batches(
    recipe: Recipe, data: Dataset | None, start_model: Model | None, rng: Rng, reporter: Reporter
) -> BatchFn:
    """Return what gives each step its examples: the data, or pairs that the older model draws.

    Raises:
        UsageError: If there is no older model to draw them.
    """
    if data is not None and not recipe.reflow_pairs:
        lengths = data.given["valid"].sum(1) if recipe.objective.length_bucketing else None
        return batch_loader(data, recipe.train.batch_size, rng, lengths)
    if start_model is None:
        raise UsageError("the run of an older model, from which this recipe draws pairs", "none", argument="start_from")
    reporter.start("drawing pairs")
    pairs = start_model.sample_pairs(recipe.reflow_pairs, rng.fold_in("pairs"), reporter.progress)
    reporter.finish()
    return shuffled_loader(pairs, recipe.train.batch_size, rng)


def read_options(record: FitRecord, like: Modality | None) -> dict:
    """Return how data are read, as arguments of `read`.

    Raises:
        UsageError: If columns are described that an older model has described.
    """
    if record.config.data_loading.schema is not None and like is not None:
        raise UsageError(f"the columns are those of {record.start_from}", remedy="Leave it out", argument="schema")
    if record.modality is not None and like is not None and not like.has_own_loader:
        raise UsageError(
            f"the data are {like.display_name}, as those of {record.start_from}",
            remedy="Leave it out",
            argument="modality",
        )
    modality = load_modality(record.modality) if record.modality and like is None else None
    return {**record.how_read, "like": like, "modality": modality}


def check_not_constant(dataset: Dataset) -> None:
    """Refuse rows of a table that are all the same; never of a private fit, of whose rows that would tell."""
    one = dataset.stream is not None or not dataset.modality.is_tabular or len(dataset) < 2
    if one or dataset.given or dataset.target is not None:
        return
    if all(bool((leaf == leaf[:1]).all()) for leaf in leaves(dataset.values)):
        raise InputError(
            "rows that differ", f"{len(dataset):,} that are the same, so there is nothing to learn", argument="data"
        )


def _few(dataset: Dataset) -> list[str]:
    """Warn of data that are too few to learn from."""
    if dataset.total >= FEW:
        return []
    return [f"examples to learn from: {dataset.total}, fewer than {FEW}; the model can do little but repeat them"]
