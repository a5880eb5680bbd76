"""Ledgers of overwritten runs and of failed schema searches."""

import pytest
import torch

from feller.app.workflows.private.budget import SchemaSearchBudget, earlier_lines, ledger_of
from feller.app.workflows.private.privacy_config import ClosedFormBudget
from feller.app.workflows.run_config import data_fingerprint
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from tests.errors import refuses
from tests.records import fit_record

LEDGER = Ledger((GaussianMechanism("counts", 5.0),), 1e-5, 300)
PLANNED = ClosedFormBudget(epsilon=1.0, delta=1e-5, n=300, rho=0.02)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


def rows(last):
    kind = Table(Schema((Categorical("a", tuple("pqrstuvwxyz")),)))
    return Dataset(torch.tensor([[*range(10), last]]).T.contiguous(), {}, kind)


def overwritten(path, asked):
    """Return the folder of an overwritten private run."""
    run = Run(path)
    path.mkdir(exist_ok=True)
    run.write_record(run.ledger, to_dict(LEDGER))
    if asked is not None:
        run.write_record(run.recipe, asked.content)
    with run.acquire(resume=False, overwrite=True):
        assert not run.ledger.is_file()
    return run


def asked(data, of):
    return fit_record(
        data=data, recipe="table", size="tiny", seed=0, private=PLANNED, fingerprint=data_fingerprint(of, "salt")
    )


@pytest.mark.parametrize(
    ("before", "rows_of"),
    [
        (asked, "on old.csv"),
        (lambda data, of: asked("now.csv", rows(3)), "on now.csv"),
        (lambda data, of: asked(data, rows(3)), ""),
        (lambda data, of: None, "on possibly the same rows"),
    ],
    ids=["same rows", "same file", "other rows", "unknown"],
)
def test_earlier_runs_of_the_same_or_unknown_rows_are_noted(tmp_path, before, rows_of):
    run = overwritten(tmp_path / "r", before("old.csv", rows(7)))
    lines = earlier_lines(run, "now.csv", rows(7))
    assert len(lines) == bool(rows_of)
    for line in lines:
        assert f"spent epsilon {LEDGER.epsilon():.4g} at delta 1e-05 {rows_of}" in line


def test_ledgers_are_kept(tmp_path):
    for _ in range(3):
        run = overwritten(tmp_path / "r", None)
    assert [before.path.name for before in run.previous_ledgers] == ["1", "2", "3"]
    assert all(ledger_of(before) == LEDGER for before in run.previous_ledgers)
    with run.acquire(resume=False, overwrite=False):  # there is no run to replace
        pass
    assert len(run.previous_ledgers) == 3
    run.previous_ledgers[0].ledger.write_text("{")
    assert "is unknown" in earlier_lines(run, "now.csv", rows(7))[0]


@pytest.mark.parametrize("error", [UsageError("no"), KeyboardInterrupt(), RuntimeError("no")])
def test_ledger_of_a_failed_schema_search(tmp_path, error):
    run, search = Run(tmp_path / "r"), SchemaSearchBudget()

    def look():
        search.record_spending(Ledger((GaussianMechanism("finding the columns", 1.0),), 1e-5, 300))
        search.record_spending(LEDGER)
        raise error

    with pytest.raises(type(error)) as raised, search.keep_on_failure(run, writes=True, begun=False):
        look()
    assert ledger_of(run.previous_ledgers[0]) == LEDGER
    if isinstance(error, UsageError):
        assert f"epsilon {LEDGER.epsilon():.4g} at delta 1e-05" in str(raised.value)


def test_failure_without_a_schema_search(tmp_path):
    run = Run(tmp_path / "r")
    with refuses(UsageError, message="no"), SchemaSearchBudget().keep_on_failure(run, writes=True, begun=False):
        raise UsageError("no")
    assert not run.path.exists()
