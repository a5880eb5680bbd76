"""What an audit came to, and its page."""

from dataclasses import replace

import pytest

from feller.app.workflows.auditing.attacks import AttackResults
from feller.app.workflows.auditing.audit_page import (
    ALARM,
    HOLDS,
    LEAKS,
    LOOSE,
    OPEN,
    audit_report,
    audit_verdict,
    public_report,
)
from feller.app.workflows.auditing.audit_target import open_audit_target
from feller.app.workflows.auditing.plan_calculator import bounds
from feller.evaluation.report.report_page import page, record
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import Ledger
from tests.evaluation.report.reader import read
from tests.safety.specimen_runs import copied

LEDGER = Ledger((PoissonSubsampledGaussian("training", 1.0, 0.1, 10),), 1e-5, 100)
SHADOWED = {"copies": 0.0, "copies_held_out": 0.0, "shadow_auc": 0.493, "shadow_caught": 0.0, "shadow_epsilon": 0.0}
RISKS = ("singling_out_risk", "linkability_risk", "inference_risk")


def risks(level, value=0.05):
    """Metrics of the three risks, all of one level."""
    return dict.fromkeys(RISKS, value) | {f"{name.removesuffix('_risk')}_level": level for name in RISKS}


@pytest.mark.parametrize(
    ("numbers", "grade", "metrics"),
    [
        ({"rebuilt_error": 5e-24, "spread": 0.0435, "loss_auc": 0.4975}, LEAKS, ("rebuilt_error",)),
        ({"rebuilt_error": 0.05, "spread": 0.0435, "loss_auc": 0.4975}, OPEN, ("loss_auc",)),
        ({"copies": 0.3, "copies_held_out": 0.1, "loss_auc": 0.51}, LEAKS, ("copies",)),
        ({"copies": 0.1, "copies_held_out": 0.1, "loss_auc": 0.51}, OPEN, ("loss_auc",)),
        ({"passages": 0.12, "passages_held_out": 0.0}, LEAKS, ("passages",)),
        ({"loss_auc": 0.5, "shadow_auc": 0.7}, LEAKS, ("shadow_auc",)),
        ({"loss_auc": 0.5, "planted_auc": 0.9}, OPEN, ("loss_auc",)),
        ({"loss_auc": float("nan")}, OPEN, ()),
        ({"loss_auc": None}, OPEN, ()),
        ({"loss_auc": 0.9, **risks("low")}, OPEN, RISKS),
        ({"loss_auc": 0.9, **risks("high")}, LEAKS, RISKS),
        ({"loss_auc": 0.6, "loss_auc_low": 0.51, **risks("low")}, LEAKS, ("loss_auc", *RISKS)),
        ({"loss_auc": 0.6, "loss_auc_low": 0.49, **risks("low")}, OPEN, RISKS),
        ({"planted_auc": 0.9, "planted_auc_low": 0.8, **risks("low")}, OPEN, RISKS),
        ({"loss_auc": 0.53, "loss_auc_low": 0.51}, LEAKS, ("loss_auc",)),
        ({"copies": 0.3, "copies_held_out": 0.1, **risks("low")}, LEAKS, ("copies", *RISKS)),
        ({"loss_auc": 0.9, **risks("not measured", None)}, LEAKS, ("loss_auc",)),
        ({}, OPEN, ()),
    ],
)
def test_without_privacy(numbers, grade, metrics):
    found = audit_verdict(None, numbers)
    assert (found.grade, found.metrics) == (grade, metrics)


@pytest.mark.parametrize(
    ("numbers", "grade"),
    [
        ({"epsilon": 30.0, "guess_0.1": 0.999}, LOOSE),
        ({"epsilon": 1.0, "guess_0.1": 0.155, "loss_auc": 0.519}, HOLDS),
        ({"epsilon": 30.0, "guess_0.1": 0.999, "loss_epsilon": 31.0}, ALARM),
        ({"epsilon": 1.0, "noise_held": 0.5, "noise_held_least": 0.9}, ALARM),
        ({"epsilon": 1.0, "rebuilt_below": 1}, ALARM),
        ({"epsilon": 1.0, "inversion_below": 2.0}, ALARM),
        ({"epsilon": 1.0, "one_run_right": 0.99, "one_run_violation": 1.0}, ALARM),
        ({"epsilon": 1.0, "one_run_right": 0.6, "one_run_violation": 0.0, **risks("low")}, HOLDS),
        ({"epsilon": 1.0, "candidates_right": 0.5, "candidates_least": 0.4, "candidates_bound": 0.3}, ALARM),
    ],
)
def test_with_privacy(numbers, grade):
    found = audit_verdict(LEDGER, numbers)
    assert found.grade == grade
    assert set(found.metrics) & numbers.keys()


def test_membership_beyond_guessing_stands_in_the_verdict_of_a_guarantee():
    numbers = {"epsilon": 1.0, "guess_0.1": 0.155, "density_auc": 0.53, "density_auc_low": 0.505, **risks("low")}
    assert "density_auc" in audit_verdict(LEDGER, numbers).metrics
    assert "density_auc" not in audit_verdict(LEDGER, {**numbers, "density_auc_low": 0.495}).metrics


@pytest.mark.portable
def test_undecided_risks_are_cautions(tmp_path):
    it = open_audit_target(copied(tmp_path / "r"), None)
    undecided = {"linkability_level": "not measured", "linkability_needed": 400.0, "linkability_guesses": 60.0}
    plain, found = (audit_report(it, n, AttackResults({})) for n in (risks("low"), {**risks("low"), **undecided}))
    assert len(found.verdict.cautions) == len(plain.verdict.cautions) + 1


@pytest.mark.portable
def test_the_page_has_no_samples_and_speaks_of_an_epsilon_only_where_there_is_one(tmp_path):
    it = open_audit_target(copied(tmp_path / "r"), None)
    found = audit_report(it, SHADOWED, AttackResults(SHADOWED))
    root = read(page(found))
    assert root.of("grade")[0].text == OPEN
    assert not root.of("pictures")
    (grid,) = root.of("grid")
    assert [td.text for td in grid.all("td")] == ["0.493", "–", "0"]
    assert record(audit_report(it, {**SHADOWED, "epsilon": 1.0}, AttackResults({})))["tables"]


def test_levels_stand_next_to_the_grade():
    found = audit_verdict(None, {**risks("high"), "singling_out_level": "not measured", "singling_out_risk": None})
    assert len(found.doubts) == 3
    assert found.metrics == RISKS[1:]
    assert [doubt.rpartition(": ")[2] for doubt in found.doubts] == ["not measured", "high", "high"]


@pytest.mark.portable
def test_the_public_page_has_nothing_from_the_rows(tmp_path):
    it = open_audit_target(copied(tmp_path / "r"), None)
    measured = {**SHADOWED, **risks("low"), "dcr_share": 0.512345}
    numbers = {"epsilon": 1.0, "delta": 1e-5, "guess_0.1": 0.155, **measured}
    owner = audit_report(it, numbers, AttackResults(measured))
    assert set(owner.row_metrics) == set(measured)
    public = public_report(owner, "age: from 17 to 90")
    assert set(public.numbers) == {"epsilon", "delta", "guess_0.1"}
    assert not public.grids
    assert not public.pictures
    text = page(public)
    assert "age: from 17 to 90" in text
    assert "0.155" in text or "15.5" in text
    assert not any(word in text for word in ("51.2", "0.512", "0.493", "†"))
    assert page(owner).count("†") > 2


@pytest.mark.portable
def test_both_pages_have_the_budget_that_earlier_runs_spent(tmp_path):
    it = replace(open_audit_target(copied(tmp_path / "r"), None), ledger=LEDGER, earlier_spending=("an earlier run",))
    owner = audit_report(it, bounds(LEDGER.events, LEDGER.delta), AttackResults({}))
    for report in (owner, public_report(owner, None)):
        assert report.expenses == (*LEDGER.describe_events(it.unit), "an earlier run")
