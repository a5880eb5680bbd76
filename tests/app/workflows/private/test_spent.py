"""What was spent before is never lost from a folder, and told of the same rows."""

import pathlib

import pytest
import torch

from feller.app.workflows.private.budget import SchemaSearchBudget, earlier_lines, ledger_of
from feller.app.workflows.private.privacy_config import ClosedFormBudget
from feller.app.workflows.run_config import FitRecord, data_fingerprint
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from tests.records import fit_record

LEDGER = Ledger((GaussianMechanism("counts", 5.0),), 1e-5, 300)
PLANNED = ClosedFormBudget(epsilon=1.0, delta=1e-5, n=300, rho=0.02)


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


def rows(last: int) -> Dataset:
    kind = Table(Schema((Categorical("a", tuple("pqrstuvwxyz")),)))
    return Dataset(torch.tensor([[*range(10), last]]).T.contiguous(), {}, kind)


def overwritten(path: pathlib.Path, asked: FitRecord | None) -> Run:
    """Return a folder that held a private run."""
    run = Run(path)
    path.mkdir(exist_ok=True)
    run.write_record(run.ledger, to_dict(LEDGER))
    if asked is not None:
        run.write_record(run.recipe, asked.content)
    with run.acquire(resume=False, overwrite=True):
        assert not run.ledger.is_file()
    return run


def asked(data: str, of: Dataset) -> FitRecord:
    return fit_record(
        data=data, recipe="table", size="tiny", seed=0, private=PLANNED, fingerprint=data_fingerprint(of, "salt")
    )


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (asked, "on old.csv"),
        (lambda data, of: asked("now.csv", rows(3)), "on now.csv"),
        (lambda data, of: asked(data, rows(3)), ""),
        (lambda data, of: None, "on possibly the same rows"),
    ],
    ids=["same rows", "same file", "other rows", "unknown"],
)
def test_runs_of_the_same_rows_or_of_unknown_ones_are_told(tmp_path: pathlib.Path, before, told: str) -> None:
    run = overwritten(tmp_path / "r", before("old.csv", rows(7)))
    lines = earlier_lines(run, "now.csv", rows(7))
    assert len(lines) == bool(told)
    for line in lines:
        assert f"spent epsilon {LEDGER.epsilon():.4g} at delta 1e-05 {told}" in line


def test_no_ledger_is_ever_replaced(tmp_path: pathlib.Path) -> None:
    for _ in range(3):
        run = overwritten(tmp_path / "r", None)
    assert [before.path.name for before in run.previous_ledgers] == ["1", "2", "3"]
    assert all(ledger_of(before) == LEDGER for before in run.previous_ledgers)
    with run.acquire(resume=False, overwrite=False):  # no run is there that one would have to replace
        pass
    assert len(run.previous_ledgers) == 3


def test_a_damaged_ledger_is_told_of(tmp_path: pathlib.Path) -> None:
    run = overwritten(tmp_path / "r", None)
    run.previous_ledgers[0].ledger.write_text("{")
    (line,) = earlier_lines(run, "now.csv", rows(7))
    assert "is unknown" in line


@pytest.mark.parametrize("wrong", [UsageError("no"), KeyboardInterrupt(), RuntimeError("no")])
def test_a_search_that_leads_to_no_run_is_written_down(tmp_path: pathlib.Path, wrong: BaseException) -> None:
    run, search = Run(tmp_path / "r"), SchemaSearchBudget()

    def look() -> None:
        search.record_spending(Ledger((GaussianMechanism("finding the columns", 1.0),), 1e-5, 300))
        search.record_spending(LEDGER)
        raise wrong

    with pytest.raises(type(wrong)) as raised, search.keep_on_failure(run, writes=True, begun=False):
        look()
    assert ledger_of(run.previous_ledgers[0]) == LEDGER
    if isinstance(wrong, UsageError):
        assert f"no. The schema search spent epsilon {LEDGER.epsilon():.4g} at delta 1e-05" in str(raised.value)


def test_a_search_that_was_never_made_is_not_told_of(tmp_path: pathlib.Path) -> None:
    with (
        pytest.raises(UsageError, match=r"^no$"),
        SchemaSearchBudget().keep_on_failure(Run(tmp_path / "r"), writes=True, begun=False),
    ):
        raise UsageError("no")
    assert not (tmp_path / "r").exists()
