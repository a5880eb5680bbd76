"""Data access of a private fit: schema search, held-out split, noisy statistics and ledger."""

import contextlib
import pathlib
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pandas as pd
from torch import nn

from feller.app.options import values_of
from feller.app.reporter import Reporter
from feller.app.workflows.fitting.data_access import OpenData, read_options, start_modality
from feller.app.workflows.fitting.fit_plan import DataAccess, FitPlan
from feller.app.workflows.fitting.plan_fit import check_closed_form, check_target
from feller.app.workflows.fitting.recipe_request import RecipeRequest, with_recipe_schema
from feller.app.workflows.fitting.run_training import TrainingInputs, TrainingJob
from feller.app.workflows.private.budget import PrivacyBudget, SchemaSearchBudget, check_public, own_ledger
from feller.app.workflows.private.leakage_report import check_rows, check_tracking
from feller.app.workflows.private.plan_dp_sgd import (
    check_no_step_options,
    check_plan,
    check_private,
    check_resumable,
    plan_closed_form,
    with_independent_rows,
)
from feller.app.workflows.private.plan_dp_sgd import plan_dp_sgd as plan_dp_sgd
from feller.app.workflows.private.pretrain_on_marginals import marginal_model_of, pretrain_on_marginals
from feller.app.workflows.private.privacy_config import ClosedFormBudget, Guarantee, PrivacyConfig
from feller.app.workflows.private.private_histories import history_note, history_search_of, placeholder_data
from feller.app.workflows.private.private_split import OPEN_SALT_PREFIX, keyed_fingerprint, unordered_print
from feller.app.workflows.private.private_statistics import NOT_PUBLIC, has_public_texts, measure_statistics
from feller.app.workflows.private.private_training import CLOCK_SECONDS, private_inputs
from feller.app.workflows.private.probe_rows import (
    check_row_independence,
    check_user_code,
    random_rows,
    with_white_level,
)
from feller.app.workflows.private.table_schema import (
    TABLE_SUFFIXES,
    SchemaCost,
    capture_warnings,
    clipped_cells_note,
    find_history_schema,
    find_schema,
    hidden_columns_note,
    owner_warnings,
    rare_values_note,
)
from feller.app.workflows.private.wide_columns import group_wide_columns
from feller.app.workflows.run_config import FitRecord, data_fingerprint, train_test_split
from feller.core.errors import InputError, UsageError, error_context
from feller.core.optional_dependency import require_package
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.data.crystals.files import holds_crystals
from feller.data.crystals.modality import Crystals
from feller.data.database_urls import is_database
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_table
from feller.data.loading.in_memory import IN_MEMORY_PREFIX, DataSource, said_of
from feller.data.loading.linked_files import holds_linked_tables
from feller.data.loading.raw import RawTable
from feller.data.loading.targets import TARGET_RECIPES, with_target
from feller.data.modality import Dataset, Modality
from feller.data.shards.shard_names import is_sharded
from feller.data.tables.dataframes import from_frame
from feller.data.tables.histories import Histories, history_dataset
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table, table_dataset, unmodelled_notes
from feller.data.tables.schema import is_draft
from feller.data.tables.schema_lint import schema_warnings
from feller.evaluation.evaluation_budget import kind_of_report
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.spec import ModelSpec
from feller.privacy.accounting.dp_events import DpEvent
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.marginals.marginal_model import MarginalModel
from feller.privacy.noise.grid_noise import Noise, make_noise
from feller.training.engine import Engine
from feller.training.objective import Objective
from feller.training.objectives.one_shot import OneShotObjective

FLOWS = "table-flow"
"""Name of the recipe that does not support numeric columns of a noisy schema, because their cells may be missing."""
PRIVATE_PACKAGES = {
    "dp_accounting": "accounting of privacy",
    "cryptography.hazmat.primitives.ciphers": "private noise",
}
"""Module that a private fit needs -> its purpose."""


class PrivateData(DataAccess):
    """Data access of a private fit: every value it exposes is either public, or noisy and charged to the ledger."""

    clock_resolution = CLOCK_SECONDS
    keeps_copies = False

    def __init__(self, config: PrivacyConfig | None, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._search = SchemaSearchBudget()
        self._schema_cost = SchemaCost()
        """Cost of the schema search."""
        self._privacy_plan: Guarantee | ClosedFormBudget | None = None
        self._ledger: Ledger | None = None
        """Ledger of all releases so far."""
        self._marginal_model: MarginalModel | None = None
        """Graphical model fitted to noisy counts, used to pretrain the network."""
        self._budget: PrivacyBudget | None = None
        """Budget to which training steps are charged."""

    @property
    def config(self) -> PrivacyConfig:
        """Requested privacy options."""
        if self._config is None:
            raise UsageError(
                "privacy options of a resumed run cannot change", remedy="Omit --epsilon, --delta and --noise"
            )
        return self._config

    @property
    def guarantee(self) -> Guarantee:
        """Planned guarantee of DP-SGD training."""
        if not isinstance(self._privacy_plan, Guarantee):
            raise TypeError(f"expected a planned training, found {type(self._privacy_plan).__name__}")
        return self._privacy_plan

    def record_spending(
        self, run: Run, engine: Engine, *, begun: bool = False
    ) -> contextlib.AbstractContextManager[object]:
        """Return a context manager that records the cost of the schema search, even if the fit fails."""
        return self._search.keep_on_failure(run, writes=engine.is_main_process, begun=begun)

    def read(
        self,
        record: FitRecord,
        start_model: Model | None,
        request: RecipeRequest,
        reporter: Reporter,
        in_memory_data: DataSource | None = None,
    ) -> Dataset:
        if self._engine.world_size > 1:
            self._config = replace(self.config, key=self._engine.shared_secret())
        like = start_modality(record, start_model, in_memory_data)
        dataset = self._read(record, start_model, like, request, in_memory_data)
        if record.config.data_loading.schema is not None:
            for line in owner_warnings(record.with_provenance(draft=_is_draft(record)), dataset):
                reporter.note(line)
        table_modality = as_table(dataset).modality
        is_known = any(table_modality.view(cls) is not None for cls in (Table, Histories, Images, LabelledImages))
        if not is_known and not has_public_texts(dataset.modality, like):
            raise UsageError(NOT_PUBLIC.format(dataset.modality.display_name))
        return dataset

    def _read(
        self,
        record: FitRecord,
        start_model: Model | None,
        like: Modality | None,
        request: RecipeRequest,
        in_memory_data: DataSource | None = None,
    ) -> Dataset:
        options, path = read_options(record, like), pathlib.Path(record.data)
        frame = in_memory_data if isinstance(in_memory_data, pd.DataFrame) else None
        if in_memory_data is None and is_sharded(record.data):
            raise UsageError(
                "a private fit needs Poisson sampling over all rows, which shards read in sequence do not support",
                remedy="Merge the shards into one file that fits into memory",
            )
        if frame is not None and request.name in TARGET_RECIPES and kind_of_report(record.config.report) != "none":
            raise UsageError(
                argument="recipe",
                expected=f"rows in a file, because the report of {request.name} reads the rows again",
                found="a DataFrame, which a private run does not copy",
                remedy="Set report=False, or write the rows to a file and fit the file",
            )
        has_schema = (
            record.config.data_loading.schema is not None or like is not None or record.data.startswith(EXAMPLE_PREFIX)
        )
        is_table = path.suffix.lower() in TABLE_SUFFIXES
        if is_database(record.data):  # several tables need a schema
            is_table = not holds_linked_tables(record.data)
        if not has_schema and (frame is not None or (in_memory_data is None and is_table)):
            if record.provenance.recipe == FLOWS:
                raise UsageError(
                    f"the recipe {FLOWS} needs a schema of its numeric columns",
                    remedy="Describe the columns in a file, and set --schema",
                )
            irrelevant = ("max_side", "person", "order", "max_rows")  # tables have no sides
            others = (value for name, value in options.items() if name not in irrelevant)
            if any(value for value in others if value is not RawTable):
                flags = ("longest", "space", "project", "vocabulary")
                conflicting_flags = [f"--{flag}" for flag in flags if values_of(record.config)[flag]] or [
                    f"--recipe {record.provenance.recipe}"
                ]
                raise UsageError(
                    "not supported for a private table",
                    remedy="Omit these flags, or omit --epsilon",
                    place=", ".join(conflicting_flags),
                )
            if (
                frame is None and not is_database(record.data) and holds_crystals(path)
            ):  # detected from the header or first row; --schema overrides
                raise UsageError(NOT_PUBLIC.format(Crystals.display_name))
            cells = load_table(record.data) if frame is None else from_frame(frame, said_of(frame))
            self._check_before_spending(record, cells, request, start_model)
            if (search := history_search_of(record)) is not None:
                schema, self._schema_cost = find_history_schema(
                    self.config, cells, search, record.data, self._search.record_spending
                )
                with error_context(record.data):
                    return history_dataset(cells, schema)
            keep = tuple(name.partition("=")[0] for name in record.target)
            schema, self._schema_cost = find_schema(self.config, cells, record.data, self._search.record_spending, keep)
            with error_context(record.data):
                return table_dataset(cells, schema)
        source = record.data if in_memory_data is None else in_memory_data
        dataset = with_white_level(read(source, schema=record.config.data_loading.schema, **options), source, like)
        if not has_schema and dataset.modality.has_schema:
            raise UsageError(
                f"the schema of {record.data} would be inferred from its cells, which would reveal private values",
                remedy=f"Set --schema, or use a table file ({', '.join(TABLE_SUFFIXES)}), which gets a private schema",
            )
        table = dataset.modality.view(Table)
        if table is not None and record.config.data_loading.schema is not None and like is None:
            dataset, self._schema_cost = group_wide_columns(self.config, dataset, table, self._search.record_spending)
        return dataset

    def _check_before_spending(
        self, record: FitRecord, cells: RawTable, request: RecipeRequest, start_model: Model | None
    ) -> None:
        """Validate the request on a placeholder table before any budget is spent; user code is checked later."""
        if ":" in record.provenance.recipe:
            return
        search = history_search_of(record)
        n = len(cells.values) if search is None else search.check(cells)
        placeholder = placeholder_data(cells.columns, n, search)
        placeholder = with_target(placeholder, record.target, request.name)
        name, recipe = request.resolve(placeholder, start_model)
        check_target(recipe, name, () if placeholder.target is None else record.target, None)
        check_closed_form(recipe, None, record.watched)
        if record.watched:
            check_rows(record.watched, with_recipe_schema(placeholder, recipe))
        check_private(with_independent_rows(recipe))
        if recipe.objective.is_one_shot:
            check_no_step_options(self.config)
        else:
            check_plan(self.config, with_independent_rows(recipe), Ledger((), self.config.delta_for(n), n))

    def check_data(self, record: FitRecord, dataset: Dataset, reporter: Reporter) -> Dataset:
        if dataset.target is not None and not dataset.target.classes:
            raise UsageError(
                "a private fit supports only class targets; numeric ones are scaled by statistics of the rows",
                remedy="Set --target to a column of classes",
            )
        return dataset

    def visible_to(self, recipe: str, dataset: Dataset) -> Dataset:
        """Return the dataset that a recipe may inspect.

        A built-in recipe gets the private dataset itself. A user-defined recipe gets a dataset of the same size and
        modality with randomly generated rows, so that its code cannot see private rows.
        """
        return random_rows(dataset, len(dataset), make_noise(0, "shown")) if ":" in recipe else dataset

    def check_recipe(self, record: FitRecord, name: str, recipe: Recipe, start: Run | None, dataset: Dataset) -> None:
        """Raise an error if the recipe is not private, or if the start model may have been trained on the private rows.

        A recipe is not private if the loss of one row depends on other rows, or if user code sees rows without noise.
        """
        check_private(with_independent_rows(recipe))
        check_user_code(name, recipe)
        if start is not None:
            check_public(start, record.data, dataset)

    def add_fingerprint(self, record: FitRecord, dataset: Dataset, recipe: Recipe) -> FitRecord:
        """Return the fit record, completed by keyed fingerprints of the data, the salt of the split, and notes."""
        rows, salt = with_recipe_schema(dataset, recipe), self.config.noise_source("fingerprint").random_bytes(8).hex()
        rows_hash = keyed_fingerprint(unordered_print(rows), salt) if record.data.startswith(IN_MEMORY_PREFIX) else ""
        fields = {"fingerprint": data_fingerprint(rows, salt), "rows": rows_hash, "salt": _salt(self.config)}
        return record.with_provenance(**fields, draft=_is_draft(record), notes=self._notes(record, dataset))

    def _notes(self, record: FitRecord, dataset: Dataset) -> tuple[str, ...]:
        """Return warnings about a public schema, or notes on the noise of the schema search; cells are never read."""
        table, n, cost = as_table(dataset).modality.view(Table), len(dataset), self._schema_cost
        histories = dataset.modality.view(Histories)
        if table is None and histories is None:
            return ()
        schema = cast(Histories, histories).schema if table is None else table.schema
        if record.config.data_loading.schema is not None:
            return (*schema_warnings(schema, n), *cost.notes)
        if not cost.expenses:
            return ()
        epsilon = Ledger(cost.expenses, self.config.delta_for(n), n, cost.delta).epsilon()
        return (
            *hidden_columns_note(schema, record.data, n, epsilon),
            *clipped_cells_note(cost.clipped, record.data),
            *rare_values_note(cost.rare_values),
            *unmodelled_notes(schema),
            *history_note(schema),
            *cost.notes,
        )

    def plan(self, plan: FitPlan, request: RecipeRequest) -> FitPlan:
        """Measure the noisy statistics, and plan the remaining budget for DP-SGD or a one-shot release.

        Returns:
            The plan of the fit with these statistics, the final recipe and the planned guarantee.
        """
        training_rows = train_test_split(plan.record, with_recipe_schema(plan.dataset, plan.recipe))[0]
        with capture_warnings() as budget_warnings:
            if plan.recipe.objective.is_one_shot:
                plan = self._plan_closed_form(plan, cast(OneShotObjective, plan.recipe.objective), training_rows)
            else:
                plan = self._plan_steps(plan, request, training_rows)
        if self._ledger is not None:
            self._ledger = replace(self._ledger, table=plan.record.provenance.fingerprint)
        return replace(
            plan,
            record=plan.record.with_provenance(
                private=self._privacy_plan, notes=(*plan.record.provenance.notes, *budget_warnings)
            ),
        )

    def _plan_closed_form(self, plan: FitPlan, objective: OneShotObjective, training_rows: Dataset) -> FitPlan:
        dataset = plan.dataset.with_modality(plan.recipe.modality or plan.dataset.modality)
        rows = training_rows.with_modality(dataset.modality)
        self._ledger, self._privacy_plan = plan_closed_form(self.config, objective, rows, self._schema_cost)
        return replace(plan, dataset=dataset, start_model=None)

    def _plan_steps(self, plan: FitPlan, request: RecipeRequest, training_rows: Dataset) -> FitPlan:
        config, cost, recipe, n = self.config, self._schema_cost, plan.recipe, len(training_rows)
        check_plan(config, with_independent_rows(recipe), Ledger(cost.expenses, config.delta_for(n), n, cost.delta))
        marginals_fraction = 0.0 if plan.start_model else getattr(recipe.objective, "marginals_budget", 0.0)
        modality = recipe.modality
        images = None if modality is None else modality.view(Images)
        labelled_data = plan.dataset if images is None else plan.dataset.with_modality(images)
        like = None if plan.start_model is None else plan.start_model.spec.modality
        statistics = measure_statistics(config, labelled_data, training_rows, cost, marginals_fraction, like)
        visible_data = self.visible_to(plan.record.provenance.recipe, statistics.dataset)
        recipe = replace(request, name=plan.record.provenance.recipe).resolve(visible_data, plan.start_model)[
            1
        ]  # resolved again, from noisy statistics
        recipe, self._privacy_plan = plan_dp_sgd(config, statistics, recipe)
        self._ledger, self._marginal_model = statistics.ledger, statistics.marginal_model
        dataset = statistics.dataset.with_modality(recipe.modality or statistics.dataset.modality)
        return replace(plan, dataset=dataset, recipe=recipe, frequencies=statistics.frequencies)

    def resume(self, run: Run, plan: FitPlan, spec: ModelSpec) -> FitPlan:
        """Validate recipe and ledger, and return the plan with the noisy class frequencies stored in the model."""
        self._privacy_plan, self._ledger = (
            plan.record.provenance.private,
            own_ledger(run, plan.record.provenance.fingerprint),
        )
        check_resumable(self.guarantee, plan.recipe)
        if self._ledger is None:
            raise InputError(
                "is missing, so the spent privacy budget is unknown",
                remedy="Restore it, or start a new run",
                file=run.ledger,
            )
        modality = plan.dataset.modality
        table = modality.view(Table) or modality.view(Histories)
        if not run.state.is_file() and plan.start_model is None and table is not None:
            self._marginal_model = marginal_model_of(table)  # not pretrained yet
        self._budget = PrivacyBudget(run, self._ledger, self.guarantee, writes=self._engine.is_main_process)
        return replace(plan, frequencies=spec.frequencies)

    def check_setup(
        self, record: FitRecord, objective: Objective, network: nn.Module, data: Dataset, engine: Engine
    ) -> None:
        """Raise an error if a user-defined recipe lets the loss of one row depend on other rows.

        Also raise an error if the Fisher information loss of rows is to be tracked but cannot be.
        """
        if record.provenance.code:
            check_row_independence(record.provenance.recipe, objective, network, data, engine)
        if record.watched:
            check_tracking(record.watched, data, network, self._privacy_plan)

    @property
    def privacy_text(self) -> str:
        if self._privacy_plan is None:
            return ""
        bands = self._privacy_plan.bands if isinstance(self._privacy_plan, Guarantee) else 1
        noise = f", noise correlated over {bands} steps" * (bands > 1)
        return f"; epsilon {self._privacy_plan.epsilon:g} at delta {self._privacy_plan.delta:.3g}{noise}"

    @property
    def is_exhausted(self) -> bool:
        return self._budget is not None and self._budget.should_stop

    def begin_session(self, run: Run, steps_taken: int, engine: Engine) -> None:
        if self._ledger is None:
            raise TypeError("expected a planned fit")
        self._budget = self._budget or PrivacyBudget(run, self._ledger, self.guarantee, writes=engine.is_main_process)
        self._budget.write_ledger_first(steps_taken)

    def pretrain(self, job: TrainingJob, seed: int, engine: Engine, reporter: Reporter) -> None:
        modality = None if job.data is None else job.data.modality
        table = None if modality is None else modality.view(Table) or modality.view(Histories)
        if self._marginal_model is None or table is None or job.state.step:
            return
        reporter.start("pretraining on rows sampled from the noisy marginals")
        rng = Rng(seed).fold_in("rehearsal")
        pretrain_on_marginals(
            job.state, job.objective, table, self._marginal_model, job.config, rng, engine, reporter.progress
        )
        reporter.finish()

    def training_inputs(
        self, run: Run, plan: FitPlan, job: TrainingJob, engine: Engine, reporter: Reporter
    ) -> TrainingInputs:
        if self._budget is None or job.data is None:
            raise TypeError("expected a session that has begun, with data")
        return private_inputs(run, job, job.data, self.guarantee, self._budget, engine, plan.record)

    def closed_form_budget(self) -> tuple[float, Noise]:
        if not isinstance(self._privacy_plan, ClosedFormBudget):
            raise TypeError(f"expected a ClosedFormBudget, found {type(self._privacy_plan).__name__}")
        return self._privacy_plan.rho, make_noise(self._privacy_plan.unsafe_seed, "counts")

    def charge(self, run: Run, expenses: Sequence[DpEvent]) -> None:
        if self._ledger is None:
            raise TypeError("expected a planned fit")
        ledger = self._ledger
        for expense in expenses:
            ledger = ledger.add(expense)
        run.write_record(run.ledger, to_dict(ledger))


def data_access(config: PrivacyConfig | None, engine: Engine, *, resume: bool = False) -> DataAccess:
    """Return the data access of a new fit, which is private if privacy options are given.

    Raises:
        UsageError: If privacy options are given for a resumed run, or an adaptive clipping norm is used with several
            processes.
        NotInstalledError: If a package that a private fit needs is not installed.
    """
    if config is None:
        return OpenData()
    if resume:
        raise UsageError("privacy options of a resumed run cannot change", remedy="Omit --epsilon, --delta and --noise")
    _check_distributed(adaptive=config.adaptive, engine=engine)  # before anything is spent
    _check_packages()
    return PrivateData(config, engine)


def _check_packages() -> None:
    """Raise an error if a package that a private fit needs is missing, before it spends anything."""
    for package, purpose in PRIVATE_PACKAGES.items():
        require_package(package, purpose, "tables")


def _is_draft(record: FitRecord) -> bool:
    schema = record.config.data_loading.schema
    return schema is not None and is_draft(pathlib.Path(str(schema)))


def resumed_access(record: FitRecord, engine: Engine) -> DataAccess:
    """Return the data access of a resumed run.

    Raises:
        UsageError: If an adaptive clipping norm is used with several processes.
        NotInstalledError: If a package that a private fit needs is not installed.
    """
    if not record.is_private:
        return OpenData()
    _check_packages()
    if isinstance(record.provenance.private, Guarantee):
        _check_distributed(adaptive=record.provenance.private.adaptive, engine=engine)
    return PrivateData(None, engine)


def _check_distributed(*, adaptive: bool, engine: Engine) -> None:
    if adaptive and engine.world_size > 1:
        raise UsageError(
            "adaptive is not supported with several processes",
            remedy="Set a fixed clipping norm, for example 1",
            argument="clip",
        )


def _salt(config: PrivacyConfig) -> str:
    """Return the random salt of the split into training and held-out rows; a fixed noise seed adds a prefix to it."""
    salt = config.noise_source("kept back").random_bytes(8).hex()
    return salt if config.unsafe_seed is None else f"{OPEN_SALT_PREFIX}{salt}"
