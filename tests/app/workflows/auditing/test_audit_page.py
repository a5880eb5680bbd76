"""The page of an audit of a run that is not private speaks of no guarantee, and of no samples."""

import pathlib

import pytest

from feller.app.workflows.auditing.attacks import Attacked
from feller.app.workflows.auditing.audit_page import findings
from feller.app.workflows.auditing.audit_target import opened
from feller.evaluation.report.page import page, record
from tests.evaluation.report.reader import Node, read
from tests.safety.specimen_runs import copied

pytestmark = pytest.mark.portable

FEW = {"copies": 0.0, "copies_held_out": 0.0, "nearest_ratio": 1.1}
SHADOWED = {**FEW, "shadow_auc": 0.493, "shadow_caught": 0.0, "shadow_epsilon": 0.0}


def shown(folder: pathlib.Path, numbers: dict[str, float]) -> Node:
    return read(page(findings(opened(copied(folder), None), numbers, Attacked(numbers))))


@pytest.mark.parametrize("numbers", [FEW, SHADOWED])
def test_it_has_headings_of_its_own(tmp_path: pathlib.Path, numbers: dict[str, float]) -> None:
    root = shown(tmp_path / "r", numbers)
    titles = [title.text for title in root.all("h2")]
    assert "How much single rows show" in titles
    assert "How good the samples are" not in titles
    assert "What somebody could guess" not in titles
    assert "No samples were drawn" not in root.text


def test_where_nothing_is_guaranteed_nothing_can_fail_to_hold(tmp_path: pathlib.Path) -> None:
    root = shown(tmp_path / "r", SHADOWED)
    assert "told apart: 0.5 and 0.01 are guessing." in root.text
    assert "the ledger states" not in root.text
    it = opened(copied(tmp_path / "s"), None)
    private = findings(it, {**SHADOWED, "epsilon": 1.0}, Attacked({}))
    assert "proves more than the ledger states" in page(private)
    assert "measured" not in record(private)
