"""`feller audit --shadows` and `--canaries`: who is caught, who is not, and that nothing of it stays in the run."""

import json
import pathlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.app.reporter import SILENT
from feller.app.workflows.auditing.audit_page import ALARM, HOLDS, audit_verdict
from feller.app.workflows.auditing.audit_target import open_audit_target
from feller.app.workflows.auditing.canary_audit import canary_attack, check_canaries, place_canaries
from feller.app.workflows.auditing.retrain import make_retrainer
from feller.app.workflows.auditing.retraining_attacks import shadow_model_attack
from feller.app.workflows.private.guarantee_text import guarantee_numbers
from feller.app.workflows.private.privacy_config import Guarantee
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.loading.dataset_reader import read
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from tests.app.asked import refuse, run
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here", "unreported")

PLANNED = Guarantee(epsilon=4.0, delta=1e-5, n=1000, sigma=1.25, clip=1.0, batch=100, steps=40)
LETTERS, COLUMNS = "abcdefgh", 8
SCHEMA = {"columns": {f"c{j}": {"kind": "categorical", "values": list(LETTERS)} for j in range(COLUMNS)}}


def noise_table(path, n, seed=0):
    """Rows of letters, each drawn by itself: there is nothing to learn of others."""
    cells = np.random.default_rng(seed).integers(0, len(LETTERS), (n, COLUMNS))
    rows = [",".join(LETTERS[i] for i in row) for row in cells]
    pathlib.Path(path).write_text(",".join(SCHEMA["columns"]) + "\n" + "\n".join(rows) + "\n")
    pathlib.Path("schema.json").write_text(json.dumps(SCHEMA))


def people(path, n):
    """Rows of a number and a letter."""
    rng = np.random.default_rng(0)
    rows = [f"{rng.integers(18, 80)},{LETTERS[rng.integers(4)]}" for _ in range(n)]
    pathlib.Path(path).write_text("age,kind\n" + "\n".join(rows) + "\n")
    columns = {
        "age": {"kind": "numerical", "low": 0, "high": 100, "bins": 10},
        "kind": {"kind": "categorical", "values": list(LETTERS[:4])},
    }
    pathlib.Path("schema.json").write_text(json.dumps({"columns": columns}))


def fitted(data, *words):
    run("fit", data, "--size", "tiny", "--out", "r", *words)


def audited():
    it = open_audit_target(Run(pathlib.Path("r")), None)
    return it, make_retrainer(it)


HARD = ("--steps", 120, "--held-out", 0.5, "--train.lr", 3e-3, "--train.ema-decay", 0.9, "--schema", "schema.json")
"""Learns 60 rows by heart."""


@pytest.mark.slow
def test_memorising_model_is_caught_and_another_is_not():
    noise_table("rows.csv", 120)
    fitted("rows.csv", *HARD)
    before = {path.name: path.read_bytes() for path in pathlib.Path("r").iterdir() if path.is_file()}
    found = run("audit", "r", "--shadows", 2, "--canaries", 40)
    for way in ("shadow", "relative", "planted"):
        assert found[f"{way}_auc"] > 0.8
        assert found[f"{way}_epsilon"] > 0.5
    assert "overheard_auc" not in found  # without noise all is told
    after = {path.name: path.read_bytes() for path in pathlib.Path("r").iterdir() if path.is_file()}
    assert after.keys() - before.keys() == {"report-audit.html", "report-audit.json"}
    assert {name: after[name] for name in before} == before
    page = json.loads(pathlib.Path("r/report-audit.json").read_text())
    assert len(page["tables"]["Membership attacks"]) == 6

    noise_table("others.csv", 120, seed=1)
    it, again = audited()
    others = read("others.csv", like=it.train.modality).with_modality(it.train.modality)
    first, second = (others.subset(torch.arange(start, start + 60)) for start in (0, 60))
    numbers = shadow_model_attack(replace(it, train=first, held_out=second), again, 2, Rng(0), SILENT).numbers
    for way in ("shadow", "relative"):
        assert numbers[f"{way}_auc"] == pytest.approx(0.5, abs=4 * 0.053)  # of 60 and 60


@pytest.mark.slow
def test_planted_rows_catch_only_a_run_of_a_quarter_of_its_noise():
    noise_table("rows.csv", 500)
    words = ("--schema", "schema.json", "--objective.marginals-budget", 0, "--train.batch-size", 220, "--steps", 8)
    fitted("rows.csv", *words, "--epsilon", 3, "--unsafe-seed", 1)
    it, again = audited()
    ledger = it.ledger
    for factor, alarm in ((1.0, False), (0.25, True)):
        found = canary_attack(it, again, 160, Rng(3), SILENT, factor=factor).numbers
        assert found["candidates_places"] == 40
        assert 0.2 < found["candidates_bound"] < 0.4
        assert found["overheard_epsilon"] is not None
        grade = audit_verdict(ledger, {**guarantee_numbers(ledger), **found}).grade
        assert (grade == ALARM) == alarm, (factor, found)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["table", "table-marginals", "table-flow"])
def test_private_tables(recipe):
    people("people.csv", 900)
    budget = () if recipe == "table-marginals" else ("--steps", 4, "--train.batch-size", 64)
    budget = (*budget, "--objective.marginals-budget", 0) if recipe == "table" else budget
    fitted("people.csv", "--schema", "schema.json", "--recipe", recipe, *budget, "--epsilon", 4)
    it, again = audited()
    ledger = it.ledger
    stated = ledger.epsilon()
    assert 3.5 < stated <= 4
    found = shadow_model_attack(it, again, 2, Rng(0), SILENT).numbers
    found |= canary_attack(it, again, 36, Rng(0), SILENT).numbers
    ways = ("shadow", "relative", "planted") + (() if recipe == "table-marginals" else ("overheard",))
    for way in ways:
        assert 0 <= found[f"{way}_epsilon"] <= stated
        assert 0.2 < found[f"{way}_auc"] < 0.8
    assert ("candidates_right" in found) == ("overheard_auc" in found) == (recipe != "table-marginals")
    assert audit_verdict(ledger, {**guarantee_numbers(ledger), **found}).grade == HOLDS


@pytest.mark.slow
def test_shadow_of_fewer_rows_spends_as_much_as_the_run():
    """The same steps at a higher rate, with more noise, cost the epsilon that was spent, and hardly less."""
    people("people.csv", 900)
    words = ("--steps", 4, "--train.batch-size", 64, "--objective.marginals-budget", 0, "--epsilon", 4)
    fitted("people.csv", "--schema", "schema.json", *words)
    _, again = audited()
    shadow = again.for_rows(450).privacy_plan
    assert shadow.sigma > again.privacy_plan.sigma
    *others, _ = again.ledger.events
    ledger = replace(again.ledger, events=(*others, PoissonSubsampledGaussian("training", shadow.sigma, 64 / 450, 4)))
    assert again.ledger.epsilon() - 0.003 < ledger.epsilon() <= again.ledger.epsilon()
    with refuses(UsageError, found="64"):
        again.for_rows(40)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["example:molecules", "example:shakespeare", "example:moons", "example:digits"])
def test_every_kind_can_be_trained_again(monkeypatch, data):
    monkeypatch.setattr("feller.app.workflows.auditing.retraining_attacks.MAX_ROWS", 40)
    monkeypatch.setattr("feller.evaluation.attacks.membership.ROUNDS", 1)
    fitted(data, "--steps", 2, "--train.batch-size", 8)
    it, again = audited()
    numbers = shadow_model_attack(it, again, 2, Rng(0), SILENT).numbers
    assert 0.1 < numbers["relative_auc"] < 0.9
    numbers = canary_attack(it, again, 32, Rng(0), SILENT).numbers
    assert 0.1 < numbers["planted_auc"] < 0.9
    assert numbers["canaries"] == 32


def test_held_out_examples_bound_the_number_of_canaries():
    """One example for each canary; with visible gradients, ten for every fourth."""
    fitted("example:molecules", "--steps", 2, "--train.batch-size", 8)
    it, again = audited()
    private = replace(again, privacy_plan=PLANNED)
    held_out = it.train.subset(torch.arange(137))
    for retrainer, most in ((again, 137), (private, 43)):
        for count in (200, most + 1):
            with refuses(UsageError, remedy=f"Use --canaries {most} or fewer"):
                check_canaries(retrainer, it.train, held_out, count)
        check_canaries(retrainer, it.train, held_out, most)
        assert most <= len(place_canaries(retrainer, it.train, held_out, most, Rng(0)).rows) <= 137
    with refuses(UsageError) as caught:
        check_canaries(private, it.train, held_out.subset(torch.arange(90)), 40)
    assert "Omit --canaries" in caught.value.remedy


def test_runs_that_are_not_trained_again():
    fitted("example:moons", "--steps", 2)
    run("fit", "example:moons", "--start-from", "r", "--steps", 2, "--size", "tiny", "--out", "s")
    for words in (("--shadows", 2), ("--canaries", 40)):
        assert "s: started from the weights of r" in str(refuse("audit", "s", *words))
