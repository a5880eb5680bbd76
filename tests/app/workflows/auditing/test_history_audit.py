"""Audits of histories: memorised persons are found, other persons are not, and planted persons verify the guarantee."""

import json
import pathlib

import pandas as pd
import pytest
import torch

import feller
from feller.app.reporter import SILENT
from feller.app.workflows.auditing.audit_target import open_audit_target
from feller.app.workflows.auditing.canary_audit import canary_attack, make_canaries
from feller.app.workflows.auditing.retrain import make_retrainer
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.data.tables.histories import Histories
from feller.evaluation.attacks.coded_histories import coded_columns, coded_histories
from feller.evaluation.attacks.disclosure_risks import closeness, disclosure_risks
from feller.evaluation.attacks.risk import HIGH, LOW, UNMEASURED
from tests.app.asked import run
from tests.data.tables.test_histories import visits

pytestmark = pytest.mark.usefixtures("here", "unreported")


def persons(n: int, seed: int) -> Dataset:
    schema = feller.infer_schema(visits(900, seed=0), person="patient", order="date")
    return feller.read(visits(n, seed), schema={**schema, "outside": "clip"})


def test_codes_mark_rows_that_do_not_exist() -> None:
    data = persons(50, 1)
    modality = data.modality.view(Histories)
    assert modality is not None
    tables, names = coded_histories(modality, data, data, data), coded_columns(modality)
    lengths = modality.lengths(data.values).numpy()
    assert tables.train.shape == (50, len(names)) == (50, len(tables.counts))
    assert (tables.train < tables.counts).all()
    for j, name in enumerate(names):
        step = int(name.rsplit(" ", 1)[1]) - 1 if ", row" in name else 0
        assert ((tables.train[:, j] == tables.counts[j] - 1) & tables.has_missing[j]).tolist() == (
            (lengths <= step).tolist() if ", row" in name else [False] * 50
        )


@pytest.mark.parametrize("is_copied", [True, False])
def test_copies_of_persons_are_found(is_copied: bool) -> None:
    """Samples are the training persons or other persons; each interval fails with probability below 5 %."""
    train, unseen, others = persons(150, 1), persons(150, 2), persons(150, 3)
    modality = train.modality.view(Histories)
    assert modality is not None
    tables = coded_histories(modality, train if is_copied else others, train, unseen)
    risks = disclosure_risks(tables, Rng(0)).risks
    numbers = closeness(tables, Rng(1))
    if is_copied:
        assert {risk.level for risk in risks.values()} == {HIGH}
        assert risks["linkability"].value > 0.6  # many persons have one row only
        assert numbers["dcr_share"] > 0.95
    else:
        assert {risk.level for risk in risks.values()} <= {LOW, UNMEASURED}
        assert numbers["dcr_null_low"] <= numbers["dcr_share"] <= numbers["dcr_null_high"]


def test_runs_are_audited_per_person() -> None:
    visits(520).to_csv("visits.csv", index=False)
    run("fit", "visits.csv", "--person", "patient", "--order", "date", "--size", "tiny", "--steps", 3, "--out", "r")
    found = run("audit", "r", "--report", "full")
    for name in ("singling_out", "linkability", "inference"):
        assert found[f"{name}_risk_low"] <= found[f"{name}_risk"] <= found[f"{name}_risk_high"]
        assert found[f"{name}_risk_low"] <= 0.1
    assert 0.3 < found["loss_auc"] < 0.7
    assert 0.3 < found["density_auc"] < 0.7
    assert found["dcr_null_low"] <= found["dcr_share"] <= found["dcr_null_high"]
    page = json.loads(pathlib.Path("r/report-audit.json").read_text())
    assert any("row 2" in str(row) for row in page["tables"]["Inference, by column"])
    for table in ("Singling out, linkability, inference", "Inference, by column"):
        names = [*page["tables"][table][0]]
        assert any("persons" in name for name in names)
        assert not any("rows" in name for name in names)
    assert "persons" in page["title"]


def test_planted_persons_are_valid() -> None:
    data = persons(20, 1)
    canaries = make_canaries(data, data, 200, Rng(0))
    modality = canaries.modality.view(Histories)
    assert modality is not None
    assert torch.equal(modality.decode(modality.encode(canaries.values)), canaries.values)
    assert set(modality.lengths(canaries.values).tolist()) == set(range(1, modality.history.max_rows + 1))


@pytest.mark.slow
def test_planted_persons_verify_the_guarantee() -> None:
    """Epsilon is proven with 95 % confidence; noise that is 50 times too small is found."""
    visits(300).to_csv("visits.csv", index=False)
    schema = feller.infer_schema(pd.read_csv("visits.csv"), person="patient", order="date")
    pathlib.Path("schema.json").write_text(json.dumps({**schema, "outside": "clip"}))
    words = ("--schema", "schema.json", "--epsilon", 2, "--unsafe-seed", 1, "--size", "tiny", "--steps", 12)
    run("fit", "visits.csv", *words, "--batch", 64, "--out", "r")
    target = open_audit_target(Run(pathlib.Path("r")), None)
    assert target.ledger is not None
    retrainer = make_retrainer(target)
    assert retrainer.marginal_model is not None
    epsilon = target.ledger.epsilon()
    kept, broken = (
        canary_attack(target, retrainer, 128, Rng(3), SILENT, factor=factor).numbers for factor in (1.0, 0.02)
    )
    assert kept["overheard_epsilon"] <= epsilon < broken["overheard_epsilon"]
    assert kept["candidates_least"] <= kept["candidates_bound"] < broken["candidates_least"]
