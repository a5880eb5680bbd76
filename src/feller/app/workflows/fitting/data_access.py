"""Access of a fit to data without privacy restrictions, and batches of data."""

from collections.abc import Sequence
from dataclasses import replace

from feller.app.modalities.registration import load_modality
from feller.app.reporter import Reporter
from feller.app.workflows.fitting.fit_plan import DataAccess, FitPlan
from feller.app.workflows.fitting.image_latents import latent_batches, latent_code
from feller.app.workflows.fitting.recipe_request import RecipeRequest, with_recipe_schema
from feller.app.workflows.fitting.run_training import TrainingInputs, TrainingJob
from feller.app.workflows.run_config import FitRecord, data_fingerprint
from feller.core.errors import InputError, UsageError, error_context
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.batches import batch_loader, shuffled_loader
from feller.data.images.modality import Images
from feller.data.loading.condition_sources import names_of
from feller.data.loading.dataset_reader import holds_table, read
from feller.data.loading.in_memory import IN_MEMORY_PREFIX, DataSource
from feller.data.loading.raw import RawTable
from feller.data.modality import Dataset, Modality
from feller.data.tables.modality import Table, unmodelled_notes
from feller.data.text.modality import Text
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.privacy.accounting.dp_events import DpEvent
from feller.training.engine import Engine
from feller.training.loop import BatchFn

FEW = 10
"""Number of training examples below which a warning about memorisation is shown."""


class OpenData(DataAccess):
    """Policy for access to data without privacy restrictions."""

    def check_recipe(self, record: FitRecord, name: str, recipe: Recipe, start: Run | None, dataset: Dataset) -> None:
        """Accept any recipe."""

    def begin_session(self, run: Run, steps_taken: int, engine: Engine) -> None:
        """Start a training session without a privacy ledger."""

    def pretrain(self, job: TrainingJob, seed: int, engine: Engine, reporter: Reporter) -> None:
        """Do nothing, because only private fits are pretrained."""

    def charge(self, run: Run, expenses: Sequence[DpEvent]) -> None:
        """Record nothing, because open data has no privacy cost."""

    def read(
        self,
        record: FitRecord,
        start_model: Model | None,
        request: RecipeRequest,
        reporter: Reporter,
        in_memory_data: DataSource | None = None,
    ) -> Dataset:
        return read(
            record.data if in_memory_data is None else in_memory_data,
            schema=record.config.data_loading.schema,
            **read_options(record, start_modality(record, start_model, in_memory_data)),
        )

    def check_data(self, record: FitRecord, dataset: Dataset, reporter: Reporter) -> Dataset:
        dataset = dataset.modality.with_statistics(dataset)
        with error_context(None if record.data.startswith(IN_MEMORY_PREFIX) else record.data or None):
            check_not_constant(dataset)
        return dataset

    def add_fingerprint(self, record: FitRecord, dataset: Dataset, recipe: Recipe) -> FitRecord:
        fingerprint = data_fingerprint(with_recipe_schema(dataset, recipe), None)
        shape = getattr((recipe.modality or dataset.modality).view(Images), "shape", None)
        notes = () if shape is None else recipe.architecture.notes(shape)
        return record.with_provenance(fingerprint=fingerprint, notes=(*dataset.notes, *notes, *_few(dataset)))

    def plan(self, plan: FitPlan, request: RecipeRequest) -> FitPlan:
        return replace(plan, dataset=plan.dataset.with_modality(plan.recipe.modality or plan.dataset.modality))

    def training_inputs(
        self, run: Run, plan: FitPlan, job: TrainingJob, engine: Engine, reporter: Reporter
    ) -> TrainingInputs:
        rng = Rng(plan.record.seed)
        return TrainingInputs(batches=make_batches(plan.recipe, job.data, plan.start_model, rng, reporter), rng=rng)


def make_batches(
    recipe: Recipe, data: Dataset | None, start_model: Model | None, rng: Rng, reporter: Reporter
) -> BatchFn:
    """Return the function (step, slice of the batch) -> batch that loads training examples.

    If the recipe trains on pairs (reflow), this function first generates (source, sample) pairs with the start model.

    Raises:
        UsageError: If the recipe needs pairs but `start_model` is None.
    """
    if data is not None and not recipe.reflow_pairs:
        lengths = data.given["valid"].sum(1) if recipe.objective.length_bucketing else None
        load, size = batch_loader(data, recipe.train.batch_size, rng, lengths), recipe.train.batch_size
        return load if latent_code(data.modality) is None else latent_batches(load, size, rng)
    if start_model is None:
        raise UsageError(
            "the run of a model that generates the training pairs for this recipe", "none", argument="start_from"
        )
    reporter.start("sampling pairs")
    pairs = start_model.sample_pairs(recipe.reflow_pairs, rng.fold_in("pairs"), reporter.progress)
    reporter.finish()
    return shuffled_loader(pairs, recipe.train.batch_size, rng)


def start_modality(
    record: FitRecord, start_model: Model | None, in_memory_data: DataSource | None = None
) -> Modality | None:
    """Return the modality of the start model, with which the data of a fit are read; None without a start model.

    It is also None if the start model is a language model and the data are the rows of a table.

    Args:
        record: Options of the fit, which name the data.
        start_model: Model with whose weights training starts; None for random weights.
        in_memory_data: Data as a Python object; None for those on disk.
    """
    if start_model is None:
        return None
    modality, has_schema = start_model.spec.modality, record.config.data_loading.schema is not None
    is_table = modality.view(Text) is not None and (
        has_schema or holds_table(record.data if in_memory_data is None else in_memory_data)
    )
    return None if is_table else modality


def read_options(record: FitRecord, like: Modality | None) -> dict:
    """Return the keyword arguments, except the schema, that the data reader `read` needs for the data of a fit.

    Raises:
        UsageError: If a schema or a modality is given although the start model, with modality `like`, determines it.
    """
    if record.config.data_loading.schema is not None and like is not None:
        raise UsageError(f"the columns are determined by {record.start_from}", remedy="Leave it out", argument="schema")
    if record.modality is not None and like is not None and not like.has_own_loader:
        raise UsageError(
            f"the modality is determined by {record.start_from}: {like.display_name}",
            remedy="Leave it out",
            argument="modality",
        )
    if record.condition and like is not None and {*names_of(record.condition)} != {*like.selected_conditions}:
        raise UsageError(
            argument="condition",
            expected=f"the conditions of {record.start_from}: {', '.join(like.selected_conditions) or 'none'}",
            found=", ".join(record.condition),
            remedy="Leave it out",
        )
    modality = load_modality(record.modality) if record.modality and like is None else None
    kind = {"kind": RawTable} if like is None and record.start_from else {}
    return {**record.how_read, "like": like, "modality": modality, **kind}


def check_not_constant(dataset: Dataset) -> None:
    """Raise an error if all rows of a table are equal.

    Private fits skip this check, because the error would reveal rows.
    """
    is_exempt = dataset.stream is not None or not dataset.modality.is_tabular or not len(dataset)
    if is_exempt or dataset.given or dataset.target is not None:
        return
    if all(bool((leaf == leaf[:1]).all()) for leaf in leaves(dataset.values)):
        found = "1 row" if len(dataset) == 1 else f"{len(dataset):,} equal rows"
        omitted = () if (table := dataset.modality.view(Table)) is None else unmodelled_notes(table.schema)
        if omitted and len(dataset) > 1:
            found = f"{found} in the modelled columns ({'; '.join(omitted)})"
        raise InputError("at least two different rows", found, argument="data")


def _few(dataset: Dataset) -> list[str]:
    """Return a warning if there are few examples; otherwise an empty list."""
    if dataset.total >= FEW:
        return []
    return [f"examples to learn from: {dataset.total}, fewer than {FEW}; the model will mostly memorise them"]
