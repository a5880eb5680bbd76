"""Opening of a run for an audit, with its data and privacy ledger, and checks that these belong together."""

from dataclasses import dataclass

from feller.app.workflows.fine_tuned_run import knows_objective, read_recipe, read_tuning_record
from feller.app.workflows.private.budget import earlier_lines, own_ledger
from feller.app.workflows.private.guarantee_text import privacy_unit
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
    "autoencoder": "is an autoencoder without samples; audit the model that was trained on its latents",
    "latent-autoencoder": "is an autoencoder without samples; audit the model that was trained on its latents",
    "bridge": "is a bridge between populations; audits support models of one dataset",
    "documents": "is a model of documents, which share training examples; audits need one example per row",
    "vocoder": "is a vocoder without samples; audit the model of the log-mel spectrograms",
}
"""Name of a model family that cannot be audited -> reason, for the error message."""


@dataclass(frozen=True, eq=False)
class AuditTarget:
    """Run to audit: model, training and held-out data, and privacy ledger."""

    run: Run
    record: FitRecord
    model: Model
    ledger: Ledger | None
    """Privacy ledger; None without differential privacy."""
    objective: Objective | None
    """Training objective; None if it needs a teacher model that is not available."""
    train: Dataset
    held_out: Dataset
    """Held-out examples from the same distribution as the training set."""
    earlier_spending: tuple[str, ...] = ()
    """Privacy budget that other fits spent on the same rows, as one line of text per fit."""

    @property
    def expenses(self) -> tuple[DpEvent, ...]:
        """DP events of the ledger; empty without differential privacy."""
        return self.ledger.events if self.ledger else ()

    @property
    def delta(self) -> float:
        """Delta of the guarantee; 0 without differential privacy."""
        return self.ledger.delta if self.ledger else 0.0

    @property
    def unit(self) -> str:
        """Noun for what is attacked and protected: row, person, or the name of the column that identifies people."""
        return privacy_unit(self.model.spec.modality)

    @property
    def is_regressor(self) -> bool:
        """True if the model predicts a target and therefore cannot generate samples."""
        return self.model.family.prediction_target is not None


def open_audit_target(run: Run, data: DataSource | None) -> AuditTarget:
    """Open a run and read its data.

    Args:
        run: Run folder.
        data: Training data, as a path or a Python object; None for the path recorded in the run.

    Raises:
        InputError: If the ledger or the data do not belong to the run.
        UsageError: If the model family cannot be audited.
    """
    model = load_model(run)
    model.network.to(get_engine().device)
    if model.family.name in NOT_AUDITED:
        raise UsageError(f"{run.path} {NOT_AUDITED[model.family.name]}")
    if read_tuning_record(run) is not None:
        raise UsageError(
            "is a fine-tuned run without training rows of its own", remedy="Audit its base run", file=run.path
        )
    record = read_fit_record(run)
    ledger = _ledger(run, record)
    rows = _rows(record, model, data)
    rows.require_in_memory("an audit")
    train, held_out = train_test_split(record, rows)
    earlier = earlier_lines(run, record.data, rows) if ledger else ()
    return AuditTarget(run, record, model, ledger, _objective(run), train, held_out, earlier)


def _ledger(run: Run, record: FitRecord) -> Ledger | None:
    """Return the privacy ledger of a run, None without privacy; raises if only one of ledger and plan exists."""
    ledger, privacy_plan = own_ledger(run, record.provenance.fingerprint), record.provenance.private
    if (ledger is None) != (privacy_plan is None):
        missing = "is missing" if ledger is None else "is of another run: this one was trained without privacy"
        raise InputError(missing, remedy="Restore the ledger that belongs to this run", file=run.ledger)
    return ledger


def _rows(record: FitRecord, model: Model, data: DataSource | None) -> Dataset:
    modality = model.spec.modality
    if data is None:
        return reread_data(record, modality).with_modality(modality)
    in_memory_data = data if is_in_memory(data) else None
    data_name = str(data) if in_memory_data is None else said_of(in_memory_data)
    rows = read_run_data(record.with_data(data_name), modality, in_memory_data)
    if not is_same_data(record, rows, record.data if in_memory_data is not None else data_name):
        raise InputError(
            f"{data_name} is not the training data of this run: the fingerprints differ",
            remedy="Use all rows of the fit, in the same order",
        )
    return rows.with_modality(modality)


def _objective(run: Run) -> Objective | None:
    """Return the training objective of a run; None if it needs a teacher or is unknown."""
    if not knows_objective(run.read_field(run.recipe, "recipe")):
        return None
    recipe = read_recipe(run)
    if recipe.objective.requires or recipe.reflow_pairs:
        return None
    return recipe.objective.build(TrainingContext())
