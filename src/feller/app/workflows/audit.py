"""Privacy audit of a run: guarantee, reconstruction bounds, attacks and report."""

import math
import pathlib
from typing import Any, cast

from feller.app.config import AuditConfig
from feller.app.options import values_of
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.auditing.attacks import attack, attack_regressor
from feller.app.workflows.auditing.audit_page import ALARM, SEEDED, audit_report, public_report
from feller.app.workflows.auditing.audit_target import AuditTarget, open_audit_target
from feller.app.workflows.auditing.fisher_leakage import RowLeakage, linear_row_leakage, tracked_row_leakage
from feller.app.workflows.auditing.gradient_inversion import invert
from feller.app.workflows.auditing.linear_reconstruction import rebuilt_rows
from feller.app.workflows.auditing.noise_check import check_ledger_noise, check_noise
from feller.app.workflows.auditing.plan_calculator import reconstruction
from feller.app.workflows.auditing.retraining_attacks import RetrainingAttacks
from feller.app.workflows.fine_tuned_run import knows_objective, read_recipe
from feller.app.workflows.private.guarantee_text import guarantee_numbers
from feller.app.workflows.private.privacy_config import ClosedFormBudget
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.tables.modality import Table
from feller.data.tables.schema_lint import schema_facts
from feller.evaluation.evaluation_budget import EvaluationBudget, kind_of_report
from feller.evaluation.report.report_page import write_report
from feller.training.checkpoint import read_counters
from feller.training.objectives.output_perturbation import OutputPerturbation

NAME = "audit"
"""Part of the report's file name after `report-`."""
PUBLIC_NAME = f"report-{NAME}-public"
"""File name, without suffix, of the page that may be given away."""


def audit(run: Run, config: AuditConfig, *, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Audit the privacy of single rows by guarantee, reconstruction bounds and attacks, and write the report.

    Args:
        run: Run with the model, and with a privacy ledger if training was private.
        config: Options of `feller audit`.
        reporter: Progress and log output.

    Returns:
        Metrics of the report, and the path of the report under the key `report`.

    Raises:
        InputError: If the ledger does not belong to the run, the data are not its training data, or another process
            writes to the run.
        UsageError: If the model type cannot be audited or retrained.
    """
    calculator_flags = [name for name, value in values_of(config.plan).items() if value is not None]
    if calculator_flags:
        raise UsageError(
            f"--{calculator_flags[0]} belongs to `feller audit calculator`; the audit of a run uses that run's ledger"
        )
    report = kind_of_report(config.report)
    effort = EvaluationBudget.for_report(report, read_counters(run)["seconds"] if run.progress.is_file() else 0.0)
    with run.ensure_lock():
        return _audit(run, config, effort, reporter, has_page=report != "none")


def _audit(
    run: Run, config: AuditConfig, effort: EvaluationBudget, reporter: Reporter, *, has_page: bool
) -> dict[str, Any]:
    target = open_audit_target(run, config.data)
    retraining = RetrainingAttacks.make(target, config.shadows, config.canaries)
    rng, ledger = Rng(config.seed).fold_in("audit"), target.ledger
    metrics: dict[str, Any] = {}
    if ledger is None:
        reporter.log(f"this model was trained WITHOUT privacy: nothing bounds what it reveals about a {target.unit}")
    else:
        reporter.start("privacy accounting")
        metrics |= {**guarantee_numbers(ledger, target.unit), **reconstruction(ledger.events)}
        reporter.finish()
    has_objective = knows_objective(run.read_field(run.recipe, "recipe"))
    objective = read_recipe(run).objective if has_objective else None
    if objective is not None and objective.is_one_shot and target.is_regressor:
        leakage = _reconstruct_rows(
            target, cast(OutputPerturbation, objective), metrics, rng.fold_in("rebuilt"), reporter
        )
    else:
        leakage = None if ledger is None else tracked_row_leakage(run, target.train, metrics["epsilon_order2"])
    metrics |= {} if leakage is None else leakage.numbers
    results = (
        attack_regressor(target, rng, effort, reporter)
        if target.is_regressor
        else attack(target, rng, effort, reporter)
    )
    results = retraining.add_to(results, target, rng, reporter)
    if ledger is not None and not target.is_regressor:
        results = results.with_(invert(target, rng.fold_in("inversion"), reporter))
    metrics |= results.numbers
    for note in results.notes:
        reporter.log(note)
    page = audit_report(target, metrics, results, leakage, config.show)
    if not has_page:
        reporter.log(page.judgement.text(metrics))
        return metrics
    write_report(run.path, page, f"report-{NAME}")
    if ledger is not None and page.judgement.grade != ALARM and SEEDED not in page.judgement.cautions:
        table = target.model.spec.modality.view(Table)
        facts = None if table is None else schema_facts(table.schema)
        write_report(run.path, public_report(page, facts), PUBLIC_NAME)
    else:  # a page of an earlier audit must not outlive the guarantee
        for suffix in ("html", "json"):
            (run.path / f"{PUBLIC_NAME}.{suffix}").unlink(missing_ok=True)
    return {**metrics, "report": f"{run.path / f'report-{NAME}.html'}"}


def public_page(run: Run) -> pathlib.Path | None:
    """Return the path of the page that may be given away; None if the last audit with a report wrote none."""
    page = run.path / f"{PUBLIC_NAME}.html"
    return page if page.is_file() and not page.is_symlink() else None


def _reconstruct_rows(
    target: AuditTarget, objective: OutputPerturbation, metrics: dict[str, Any], rng: Rng, reporter: Reporter
) -> RowLeakage | None:
    """Reconstruct training rows of a linear model from its weights, and add the results to `metrics`.

    Return the leakage of the rows; None for a model without privacy noise.
    """
    privacy_plan, train = target.record.provenance.private, target.train
    if target.ledger is not None and isinstance(privacy_plan, ClosedFormBudget):
        check_ledger_noise(target.run, target.ledger, privacy_plan)
    reporter.start("reconstructing each row from the weights and all other rows")
    rho = privacy_plan.rho if isinstance(privacy_plan, ClosedFormBudget) else math.inf
    leakage = rebuilt_rows(objective, train, rho, rng)
    reporter.finish()
    metrics |= leakage.numbers
    if math.isinf(rho):
        return None
    metrics |= check_noise(
        target.run, target.model.network, leakage.solution.theta, objective.noise_std(len(train), rho)
    ).numbers
    return linear_row_leakage(leakage, train, metrics["epsilon_order2"])
