"""Data of which no row shows in what is fitted: schema search, split, noisy statistics, ledger."""

import contextlib
import pathlib
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pandas as pd
import torch
from torch import nn

from feller.app.options import values_of
from feller.app.reporter import Tell
from feller.app.workflows.fitting.data_access import DataAccess, OpenData, reading
from feller.app.workflows.fitting.plan_fit import FitPlan, RecipeRequest, as_read, check_at_once, check_target
from feller.app.workflows.fitting.run_training import TrainingInputs, TrainingJob
from feller.app.workflows.private.budget import PrivacyBudget, Search, check_public, own_ledger
from feller.app.workflows.private.leakage_report import check_rows, check_watched
from feller.app.workflows.private.plan_dp_sgd import allow, apart, check_goes_on, check_plan, check_private
from feller.app.workflows.private.plan_dp_sgd import plan as plan_dp_sgd
from feller.app.workflows.private.pretrain_on_marginals import law_of, teach
from feller.app.workflows.private.privacy_config import Allowance, Guarantee, PrivacyConfig
from feller.app.workflows.private.private_split import OPEN, keyed, unordered_print
from feller.app.workflows.private.private_statistics import NOT_PUBLIC, guard
from feller.app.workflows.private.private_training import MINUTE, private_inputs
from feller.app.workflows.private.probe_rows import check_apart, check_own, stand_in, with_white
from feller.app.workflows.private.table_schema import (
    TABLES,
    Charged,
    beware,
    beyond_line,
    find_columns,
    hidden_line,
    merged_line,
    warned,
)
from feller.app.workflows.run_config import FitRecord, parts, print_of
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.data.crystals.files import holds_crystals
from feller.data.crystals.modality import Crystals
from feller.data.examples.registry import EXAMPLE_PREFIX
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_table
from feller.data.loading.in_memory import IN_MEMORY_PREFIX, DataSource, said_of
from feller.data.loading.raw import RawTable, error_context
from feller.data.loading.targets import TARGET_RECIPES, with_target
from feller.data.modality import Dataset, Modality
from feller.data.shards.shard_names import is_sharded
from feller.data.tables.column import Boolean
from feller.data.tables.dataframes import from_frame
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table, table_dataset, unmodelled_notes
from feller.data.tables.schema import Schema, is_draft
from feller.data.tables.schema_lint import schema_warnings
from feller.evaluation.evaluation_budget import kind_of_report
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
"""Recipe that has no use for columns whose numbers were found with noise: any of their cells may be missing."""


class PrivateData(DataAccess):
    """Data of which no row shows: all that a fit knows of them is public, or noisy and in the ledger."""

    clock_resolution = MINUTE
    keeps_copies = False

    def __init__(self, config: PrivacyConfig | None, here: Engine) -> None:
        self._config, self._here = config, here
        self._search = Search()
        self._charged = Charged()
        """What finding the columns has cost."""
        self._planned: Guarantee | Allowance | None = None
        self._ledger: Ledger | None = None
        """What was spent so far."""
        self._law: MarginalModel | None = None
        """Of rows of levels, from noisy counts, which the network learns before it sees a row."""
        self._budget: PrivacyBudget | None = None
        """Pays for steps."""

    @property
    def config(self) -> PrivacyConfig:
        """What is asked of privacy."""
        if self._config is None:
            raise UsageError("a resumed run keeps its privacy", remedy="Leave --epsilon, --delta and --noise out")
        return self._config

    @property
    def guarantee(self) -> Guarantee:
        """What a training was planned with."""
        if not isinstance(self._planned, Guarantee):
            raise TypeError(f"expected a training that is planned, got {type(self._planned).__name__}")
        return self._planned

    def spending(self, run: Run, here: Engine, *, begun: bool = False) -> contextlib.AbstractContextManager[object]:
        """Return a block after which what a search for columns has spent is kept, also where the fit is refused."""
        return self._search.kept(run, writes=here.is_main_process, begun=begun)

    def read(
        self,
        asked: FitRecord,
        like: Modality | None,
        request: RecipeRequest,
        tell: Tell,
        given: DataSource | None = None,
    ) -> Dataset:
        """Read them; where nobody described the columns of a table, find them privately."""
        if self._here.world_size > 1:
            self._config = replace(self.config, key=self._here.shared_secret())
        dataset = self._read(asked, like, request, given)
        if asked.config.reading.schema is not None:
            for line in beware(asked.with_provenance(draft=_is_draft(asked)), dataset):
                tell.note(line)
        seen = as_table(dataset).modality
        if all(seen.view(kind) is None for kind in (Table, Images, LabelledImages)):
            raise UsageError(NOT_PUBLIC.format(dataset.modality.display_name))
        return dataset

    def _read(
        self, asked: FitRecord, like: Modality | None, request: RecipeRequest, given: DataSource | None = None
    ) -> Dataset:
        how, path = reading(asked, like), pathlib.Path(asked.data)
        frame = given if isinstance(given, pd.DataFrame) else None
        if given is None and is_sharded(asked.data):
            raise UsageError(
                "a private fit draws each row of all by a coin of its own, which shards that are read in turn do"
                " not allow",
                remedy="Join them to one file that memory holds",
            )
        if frame is not None and request.name in TARGET_RECIPES and kind_of_report(asked.config.report) != "none":
            raise UsageError(
                argument="recipe",
                expected=f"rows in a file, which the report of {request.name} reads again",
                found="a DataFrame, of which a private run keeps no copy",
                remedy="Leave the report out, report=False, or write the rows to a file and fit that",
            )
        described = asked.config.reading.schema is not None or like is not None or asked.data.startswith(EXAMPLE_PREFIX)
        if not described and (frame is not None or (given is None and path.suffix.lower() in TABLES)):
            if asked.provenance.recipe == FLOWS:
                raise UsageError(
                    f"the recipe {FLOWS} needs to know its numbers", remedy="Describe the columns, and give --schema"
                )
            if any(how.values()):
                flags = ("longest", "space", "project", "vocabulary")
                said = [f"--{flag}" for flag in flags if values_of(asked.config)[flag]] or [
                    f"--recipe {asked.provenance.recipe}"
                ]
                raise UsageError("not of a private table", remedy="Leave it out, or --epsilon", place=", ".join(said))
            if frame is None and holds_crystals(
                path
            ):  # by its header, or the first row: a schema says that it is a table all the same
                raise UsageError(NOT_PUBLIC.format(Crystals.display_name))
            found = load_table(path) if frame is None else from_frame(frame, said_of(frame))
            self._check_unpaid(asked, found, request)
            schema, self._charged = find_columns(self.config, found, asked.data, self._search.paid)
            with error_context(asked.data):
                return table_dataset(found, schema)
        source = asked.data if given is None else given
        dataset = with_white(read(source, schema=asked.config.reading.schema, **how), source, like)
        if not described and dataset.modality.view(Table) is not None:
            raise UsageError(
                f"the columns of {asked.data} were described by its cells, which is not private",
                remedy=f"Give --schema, or a table in a file of its own ({', '.join(TABLES)})",
            )
        return dataset

    def _check_unpaid(self, asked: FitRecord, found: RawTable, request: RecipeRequest) -> None:
        """Refuse what is wrong with what is asked before finding columns spends anything: on a table of the same names.

        Code of a person's own waits for the columns.
        """
        if ":" in asked.provenance.recipe:
            return
        n, kind = len(found.values), Table(Schema(tuple(Boolean(name) for name in found.columns)))
        nobody = Dataset(torch.zeros(n, len(found.columns), dtype=torch.int64), {}, kind)
        nobody = with_target(nobody, asked.target, request.name)
        name, recipe = request.of(nobody, None)
        check_target(recipe, name, () if nobody.target is None else asked.target, None)
        check_at_once(recipe, None, asked.watched)
        if asked.watched:
            check_rows(asked.watched, as_read(nobody, recipe))
        check_private(apart(recipe))
        if not recipe.objective.is_one_shot:
            check_plan(self.config, apart(recipe), Ledger((), self.config.chance(n), n))

    def admit(self, asked: FitRecord, dataset: Dataset, tell: Tell) -> Dataset:
        """Refuse targets that are scaled by the rows."""
        if dataset.target is not None and not dataset.target.classes:
            raise UsageError(
                "a private fit tells no numbers, which are scaled by the rows", remedy="Ask for a class by --target"
            )
        return dataset

    def shown(self, recipe: str, dataset: Dataset) -> Dataset:
        """Return all of them; code of a person's own sees their kind and number alone."""
        return stand_in(dataset, len(dataset), make_noise(0, "shown")) if ":" in recipe else dataset

    def check_recipe(self, asked: FitRecord, name: str, recipe: Recipe, start: Run | None, dataset: Dataset) -> None:
        """Refuse a recipe in which rows look at each other, or a model to start from that may have seen them."""
        check_private(apart(recipe))
        check_own(name, recipe)
        if start is not None:
            check_public(start, asked.data, dataset)

    def identify(self, asked: FitRecord, dataset: Dataset, recipe: Recipe) -> FitRecord:
        """Note a hash that needs a key to be made again, and the salt of the rows that are kept back."""
        read, salt = as_read(dataset, recipe), self.config.source("fingerprint").random_bytes(8).hex()
        rows = keyed(unordered_print(read), salt) if asked.data.startswith(IN_MEMORY_PREFIX) else ""
        found = {"fingerprint": print_of(read, salt), "rows": rows, "salt": _salt(self.config)}
        return asked.with_provenance(**found, draft=_is_draft(asked), notes=self._notes(asked, dataset))

    def _notes(self, asked: FitRecord, dataset: Dataset) -> tuple[str, ...]:
        """Warn of what an owner's schema, which is public, seems to tell of the rows, or of what noise hid of columns.

        Of the rows their number alone is looked at; a schema that was found is noisy, and was paid for.
        """
        kind, n, charged = as_table(dataset).modality.view(Table), len(dataset), self._charged
        if kind is None:
            return ()
        if asked.config.reading.schema is not None:
            return schema_warnings(kind.schema, n)
        if not charged.expenses:
            return ()
        spent = Ledger(charged.expenses, self.config.chance(n), n, charged.delta).epsilon()
        return (
            *hidden_line(kind.schema, asked.data, n, spent),
            *beyond_line(charged.beyond, asked.data),
            *merged_line(charged.kept),
            *unmodelled_notes(kind.schema),
        )

    def plan(self, plan: FitPlan, request: RecipeRequest) -> FitPlan:
        """Count what the model holds of the rows, with noise, and spread what is left over steps or one look."""
        learned = parts(plan.asked, as_read(plan.dataset, plan.recipe))[0]
        with warned() as told:
            if plan.recipe.objective.is_one_shot:
                plan = self._plan_look(plan, cast(OneShotObjective, plan.recipe.objective), learned)
            else:
                plan = self._plan_steps(plan, request, learned)
        if self._ledger is not None:
            self._ledger = replace(self._ledger, table=plan.asked.provenance.fingerprint)
        return replace(
            plan,
            asked=plan.asked.with_provenance(private=self._planned, notes=(*plan.asked.provenance.notes, *told)),
        )

    def _plan_look(self, plan: FitPlan, objective: OneShotObjective, learned: Dataset) -> FitPlan:
        dataset = plan.dataset.with_modality(plan.recipe.modality or plan.dataset.modality)
        rows = learned.with_modality(dataset.modality)
        self._ledger, self._planned = allow(self.config, objective, rows, self._charged)
        return replace(plan, dataset=dataset, older=None)

    def _plan_steps(self, plan: FitPlan, request: RecipeRequest, learned: Dataset) -> FitPlan:
        config, charged, recipe, n = self.config, self._charged, plan.recipe, len(learned)
        check_plan(config, apart(recipe), Ledger(charged.expenses, config.chance(n), n, charged.delta))
        counted = 0.0 if plan.older else getattr(recipe.objective, "counted", 0.0)
        kind = recipe.modality
        images = None if kind is None else kind.view(Images)
        classed = plan.dataset if images is None else plan.dataset.with_modality(images)
        guarded = guard(config, classed, learned, charged, counted)
        seen = self.shown(plan.asked.provenance.recipe, guarded.dataset)
        recipe = replace(request, name=plan.asked.provenance.recipe).of(seen, plan.older)[1]  # of noisy numbers, now
        recipe, self._planned = plan_dp_sgd(config, guarded, recipe)
        self._ledger, self._law = guarded.ledger, guarded.law
        dataset = guarded.dataset.with_modality(recipe.modality or guarded.dataset.modality)
        return replace(plan, dataset=dataset, recipe=recipe, frequencies=guarded.frequencies)

    def resumed(self, run: Run, plan: FitPlan, about: ModelSpec) -> FitPlan:
        """Return the plan with the noisy shares of the model, if its recipe keeps what was planned."""
        self._planned, self._ledger = plan.asked.provenance.private, own_ledger(run, plan.asked.provenance.fingerprint)
        check_goes_on(self.guarantee, plan.recipe)
        if self._ledger is None:
            raise InputError(
                "is missing, so nobody knows what this run has spent",
                remedy="Bring it back, or start a new run",
                file=run.ledger,
            )
        kind = plan.dataset.modality.view(Table)
        if not run.state.is_file() and plan.older is None and kind is not None:
            self._law = law_of(kind)  # a new network had not learned it yet
        self._budget = PrivacyBudget(run, self._ledger, self.guarantee, writes=self._here.is_main_process)
        return replace(plan, frequencies=about.frequencies)

    def check_setup(
        self, asked: FitRecord, objective: Objective, network: nn.Module, data: Dataset, here: Engine
    ) -> None:
        """Refuse code of a person's own whose rows look at each other, and rows that cannot be watched."""
        if asked.provenance.code:
            check_apart(asked.provenance.recipe, objective, network, data, here)
        if asked.watched:
            check_watched(asked.watched, data, network, self._planned)

    @property
    def promise(self) -> str:
        """Epsilon and delta."""
        if self._planned is None:
            return ""
        return f"; epsilon {self._planned.epsilon:g} at delta {self._planned.delta:.3g}"

    @property
    def exhausted(self) -> bool:
        """Whether all steps are paid for."""
        return self._budget is not None and self._budget.should_stop

    def open(self, run: Run, taken: int, here: Engine) -> None:
        """Write the ledger before the first step."""
        if self._ledger is None:
            raise TypeError("expected a fit that is planned")
        self._budget = self._budget or PrivacyBudget(run, self._ledger, self.guarantee, writes=here.is_main_process)
        self._budget.open(taken)

    def teach(self, job: TrainingJob, seed: int, here: Engine, tell: Tell) -> None:
        """Teach a new network the law of the noisy counts, which are paid for."""
        kind = None if job.data is None else job.data.modality.view(Table)
        if self._law is None or kind is None or job.state.step:
            return
        tell.task("learning from rows of the counts")
        lessons = Rng(seed).fold_in("rehearsal")
        teach(job.state, job.objective, kind, self._law, job.config, lessons, here, tell.progress)
        tell.done()

    def inputs(self, run: Run, plan: FitPlan, job: TrainingJob, here: Engine, tell: Tell) -> TrainingInputs:
        """Return noisy gradients of Poisson samples that are paid for."""
        if self._budget is None or job.data is None:
            raise TypeError("expected a sitting that has begun, with data")
        asked = plan.asked
        return private_inputs(run, job, job.data, self.guarantee, self._budget, here, asked.watched, asked.seed)

    def allowance(self) -> tuple[float, Noise]:
        """Return what was planned for a look at all rows."""
        if not isinstance(self._planned, Allowance):
            raise TypeError(f"expected an allowance, got {type(self._planned).__name__}")
        return self._planned.rho, make_noise(self._planned.unsafe_seed, "counts")

    def charge(self, run: Run, expenses: Sequence[DpEvent]) -> None:
        """Write the ledger with what the look costs besides."""
        if self._ledger is None:
            raise TypeError("expected a fit that is planned")
        ledger = self._ledger
        for expense in expenses:
            ledger = ledger.add(expense)
        run.write_record(run.ledger, to_dict(ledger))


def data_access(config: PrivacyConfig | None, here: Engine, *, resume: bool = False) -> DataAccess:
    """Return how the data of a new fit are learned from.

    Raises:
        UsageError: If a run that goes on is to get another privacy, or several processes cannot give it.
    """
    if config is None:
        return OpenData()
    if resume:
        raise UsageError("a resumed run keeps its privacy", remedy="Leave --epsilon, --delta and --noise out")
    _check_divides(adaptive=config.adaptive, here=here)  # before anything is spent
    return PrivateData(config, here)


def _is_draft(asked: FitRecord) -> bool:
    """Tell whether a schema was named that is still marked as guessed from the rows."""
    schema = asked.config.reading.schema
    return schema is not None and is_draft(pathlib.Path(str(schema)))


def resumed_access(asked: FitRecord, here: Engine) -> DataAccess:
    """Return how the data of a run that goes on are learned from.

    Raises:
        UsageError: If several processes cannot give its privacy.
    """
    if not asked.is_private:
        return OpenData()
    if isinstance(asked.provenance.private, Guarantee):
        _check_divides(adaptive=asked.provenance.private.adaptive, here=here)
    return PrivateData(None, here)


def _check_divides(*, adaptive: bool, here: Engine) -> None:
    """Refuse a clip that needs what several processes do not tell each other."""
    if adaptive and here.world_size > 1:
        raise UsageError(
            "adaptive needs the lengths of all gradients in one process",
            remedy="Name a length, such as 1",
            argument="clip",
        )


def _salt(config: PrivacyConfig) -> str:
    """Return what makes the rows that are kept back others than those of other runs."""
    salt = config.source("kept back").random_bytes(8).hex()
    return salt if config.unsafe_seed is None else f"{OPEN}{salt}"
