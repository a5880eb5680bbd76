"""Risks of tables in whole audits: private fits stay within their bounds, and levels need enough held-out rows."""

import json
import pathlib

import pytest

from feller.evaluation.attacks.disclosure_risks import RISKS
from feller.evaluation.attacks.risk import UNMEASURED
from tests.app.asked import run
from tests.app.commands.test_audit_command import people

pytestmark = pytest.mark.usefixtures("here", "unreported")


def audit(seed: int, *words: object, n: int = 1_200) -> dict:
    people("people.csv", n, seed)
    words = ("--schema", "schema.json", "--recipe", "table-marginals", "--seed", seed, "--out", f"r{seed}", *words)
    run("fit", "people.csv", *words)
    return run("audit", f"r{seed}", "--report", "full")


def test_terminal_names_the_verdict_and_each_page_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--schema", "schema.json", "--recipe", "table-marginals", "--epsilon", 1, "--out", "r")
    people("people.csv", 300, 0)
    run("fit", "people.csv", *words)
    capsys.readouterr()
    found = run("audit", "r", "--report", "quick")
    shown, page = capsys.readouterr().err, json.loads(pathlib.Path("r/report-audit.json").read_text())
    for text in (page["verdict"], found["report"], "r/report-audit-public.html"):
        assert shown.count(text) == 1
    run("audit", "r", "--report", "none")
    shown = capsys.readouterr().err
    assert shown.count(page["verdict"].partition(":")[0]) == 1
    assert "public" not in shown


@pytest.mark.parametrize("seed", range(3))
def test_private_runs_stay_within_their_bounds(seed: int) -> None:
    found = audit(seed, "--epsilon", 1)
    for name in ("linkability", "inference"):  # hardly a predicate on three columns is satisfied by one row alone
        assert found[f"{name}_risk_low"] <= found[f"{name}_risk"] <= found[f"{name}_risk_high"]
        assert found[f"{name}_risk_low"] <= found[f"{name}_bound"]
    assert found["one_run_violation"] == 0
    assert found["one_run_epsilon"] <= 2 * found["epsilon"]  # of replacing a row
    assert found["dcr_null_low"] < 0.5 < found["dcr_null_high"]
    page = json.loads(pathlib.Path(f"r{seed}/report-audit-public.json").read_text())
    measured = set(found) - set(page["numbers"])
    assert {f"{name}_risk" for name in RISKS} <= measured
    assert all(
        name == "delta" or name.startswith(("epsilon", "guess_", "mse_", "blind", "rows_")) for name in page["numbers"]
    )
    owner = json.loads(pathlib.Path(f"r{seed}/report-audit.json").read_text())
    assert [row["level"] for row in owner["tables"]["Singling out, linkability, inference"]] != []


def test_too_few_held_out_rows() -> None:
    found = audit(0, n=300)
    assert {found[f"{name}_level"] for name in RISKS} == {UNMEASURED}
    assert all(found[f"{name}_risk"] is None for name in RISKS)
    page = json.loads(pathlib.Path("r0/report-audit.json").read_text())
    assert page["cautions"]
    assert not pathlib.Path("r0/report-audit-public.json").exists()
