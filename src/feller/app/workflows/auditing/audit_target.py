"""A run that is audited, with the rows that it learned from, all of it known to belong together."""

from dataclasses import dataclass

from feller.app.workflows.fine_tuned_run import knows_objective, read_recipe, read_tuning_record
from feller.app.workflows.private.budget import own_ledger
from feller.app.workflows.run_config import (
    FitRecord,
    is_same_data,
    read_fit_record,
    read_run_data,
    reread_data,
    train_test_split,
)
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.data.loading.in_memory import DataSource, is_in_memory, said_of
from feller.data.modality import Dataset
from feller.models.model import Model, load_model
from feller.privacy.accounting.dp_events import DpEvent
from feller.privacy.accounting.ledger import Ledger
from feller.training.engine import get_engine
from feller.training.objective import Objective, TrainingContext

NOT_AUDITED = {
    "autoencoder": "writes pictures as codes and draws none; audit what learns from these",
    "bridge": "joins populations; an audit is about a model of one",
    "documents": "is of documents, which learn beside each other; no audit tells single ones apart",
    "vocoder": "is a vocoder and draws none; audit what draws the log mels",
}
"""Why models are not audited, by the name of their family."""


@dataclass(frozen=True, eq=False)
class AuditTarget:
    """What attacks have to do with."""

    run: Run
    record: FitRecord
    model: Model
    ledger: Ledger | None
    """What was spent; None without privacy."""
    objective: Objective | None
    """What the model was trained by; None where that needs a teacher that is not here."""
    train: Dataset
    """What it learned from."""
    held_out: Dataset
    """Others of the same law."""

    @property
    def expenses(self) -> tuple[DpEvent, ...]:
        """Return all that was spent."""
        return self.ledger.events if self.ledger else ()

    @property
    def delta(self) -> float:
        """Return that of the guarantee, 0 without one."""
        return self.ledger.delta if self.ledger else 0.0

    @property
    def is_regressor(self) -> bool:
        """Say whether the model tells of data, and draws none."""
        return self.model.family.prediction_target is not None


def open_audit_target(run: Run, data: DataSource | None) -> AuditTarget:
    """Open a run and read its rows.

    Args:
        run: Holds the model, and the ledger of a private one.
        data: The rows that it learned from, also in memory; by default where the fit found them.

    Raises:
        InputError: If the ledger is not that of the run, or the data are not those that it learned from.
        UsageError: If the run is of a kind that no audit knows.
    """
    model = load_model(run)
    model.network.to(get_engine().device)
    _check_kind(run, model)
    record = read_fit_record(run)
    ledger = _ledger(run, record)
    rows = _rows(record, model, data)
    rows.require_in_memory("an audit")
    train, held_out = train_test_split(record, rows)
    return AuditTarget(run, record, model, ledger, _objective(run), train, held_out)


def _check_kind(run: Run, model: Model) -> None:
    """Refuse runs that hold no model of examples."""
    if model.family.name in NOT_AUDITED:
        raise UsageError(f"{run.path} {NOT_AUDITED[model.family.name]}")
    if read_tuning_record(run) is not None:
        raise UsageError(
            "was tuned and learned from no rows itself", remedy="Audit the run that it began with", file=run.path
        )


def _ledger(run: Run, record: FitRecord) -> Ledger | None:
    """Return what was spent, if the run is private."""
    ledger, privacy_plan = own_ledger(run, record.provenance.fingerprint), record.provenance.private
    if (ledger is None) != (privacy_plan is None):
        missing = "is missing" if ledger is None else "is of another run: this one was trained without privacy"
        raise InputError(missing, remedy="Bring the right one back", file=run.ledger)
    return ledger


def _rows(record: FitRecord, model: Model, data: DataSource | None) -> Dataset:
    """Read the rows that the run learned from, as the model sees them."""
    modality = model.spec.modality
    if data is None:
        return reread_data(record, modality).with_modality(modality)
    in_memory_data = data if is_in_memory(data) else None
    named = str(data) if in_memory_data is None else said_of(in_memory_data)
    rows = read_run_data(record.with_data(named), modality, in_memory_data)
    if not is_same_data(record, rows, record.data if in_memory_data is not None else named):
        raise InputError(
            f"{named} is not what this run learned from: its fingerprint is another",
            remedy="Give the rows that were fitted, all of them and in the same order",
        )
    return rows.with_modality(modality)


def _objective(run: Run) -> Objective | None:
    """Return what the run was trained by; None where it needs an older model beside it, or nobody knows."""
    if not knows_objective(run.read_field(run.recipe, "recipe")):
        return None
    recipe = read_recipe(run)
    if recipe.objective.requires or recipe.reflow_pairs:
        return None
    return recipe.objective.build(TrainingContext())
