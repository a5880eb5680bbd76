"""From a run to what could be learned about single rows, and what bounds it."""

import math
from typing import Any, cast

from feller.app.config import AuditConfig
from feller.app.options import values_of
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.auditing.attacks import attack, attack_told
from feller.app.workflows.auditing.audit_page import audit_report
from feller.app.workflows.auditing.audit_target import Opened, opened
from feller.app.workflows.auditing.fisher_leakage import ToldRows, all_rows, watched_rows
from feller.app.workflows.auditing.gradient_inversion import invert
from feller.app.workflows.auditing.linear_reconstruction import rebuilt_rows
from feller.app.workflows.auditing.noise_check import check_charged, check_held
from feller.app.workflows.auditing.plan_calculator import reconstruction
from feller.app.workflows.auditing.retraining_attacks import Retraining
from feller.app.workflows.fine_tuned_run import knows_objective, recipe_of
from feller.app.workflows.private.guarantee_text import promised
from feller.app.workflows.private.privacy_config import Allowance
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.evaluation.evaluation_budget import EvaluationBudget, kind_of_report
from feller.evaluation.report.report_page import write_report
from feller.training.checkpoint import read_counters
from feller.training.objectives.output_perturbation import OutputPerturbation

NAME = "audit"
"""Of the page, behind `report-`."""


def audit(run: Run, config: AuditConfig, *, tell: Tell = SILENT) -> dict[str, Any]:
    """Say what is promised about rows, what bounds their reconstruction, and what attacks reach; write the page.

    Args:
        run: Holds the model, and the ledger of a private one.
        config: What is asked for.
        tell: Hears how it goes.

    Returns:
        The numbers that the page shows, and where it is under `report`.

    Raises:
        InputError: If the ledger is not that of the run, or the data are not those that it learned from, or
            another process writes to the run.
        UsageError: If the run is of a kind that no audit knows, or cannot be trained again.
    """
    given = [name for name, value in values_of(config.plan).items() if value is not None]
    if given:
        raise UsageError(f"--{given[0]} belongs to `feller audit calculator`; a run has a ledger of its own")
    report = kind_of_report(config.report)
    effort = EvaluationBudget.for_report(report, read_counters(run)["seconds"] if run.progress.is_file() else 0.0)
    with run.ensure_lock():
        return _audited(run, config, effort, tell, has_page=report != "none")


def _audited(run: Run, config: AuditConfig, effort: EvaluationBudget, tell: Tell, *, has_page: bool) -> dict[str, Any]:
    """Do it, while nobody else writes to the run."""
    it = opened(run, config.data)
    retraining = Retraining.of(it, config.shadows, config.canaries)
    draws, ledger = Rng(config.seed).fold_in("audit"), it.ledger
    numbers: dict[str, Any] = {}
    if ledger is None:
        tell.say("this model was trained WITHOUT privacy: nothing bounds what it tells of single rows")
    else:
        tell.task("counting")
        numbers |= {**promised(ledger), **reconstruction(ledger.events)}
        tell.done()
    known = knows_objective(run.read_field(run.recipe, "recipe"))
    objective = recipe_of(run).objective if known else None
    if objective is not None and objective.is_one_shot and it.tells:
        rows = _rebuilt(it, cast(OutputPerturbation, objective), numbers, draws.fold_in("rebuilt"), tell)
    else:
        rows = None if ledger is None else watched_rows(run, it.train, numbers["epsilon_order2"])
    numbers |= {} if rows is None else rows.numbers
    found = attack_told(it, draws, effort, tell) if it.tells else attack(it, draws, effort, tell)
    found = retraining.beside(found, it, draws, tell)
    if ledger is not None and not it.tells:
        found = found.with_(invert(it, draws.fold_in("inversion"), tell))
    numbers |= found.numbers
    for note in found.notes:
        tell.say(note)
    page = audit_report(it, numbers, found, rows, config.show)
    tell.say(page.judgement.text(numbers))
    if not has_page:
        return numbers
    write_report(run.path, page, f"report-{NAME}")
    return {**numbers, "report": f"{run.path / f'report-{NAME}.html'}"}


def _rebuilt(
    it: Opened, objective: OutputPerturbation, numbers: dict[str, Any], draws: Rng, tell: Tell
) -> ToldRows | None:
    """Rebuild rows of a linear model, and add the numbers; None where no noise bounds what is told."""
    planned, train = it.asked.provenance.private, it.train
    if it.ledger is not None and isinstance(planned, Allowance):
        check_charged(it.run, it.ledger, planned)
    tell.task("rebuilding rows from the weights and all others")
    rho = planned.rho if isinstance(planned, Allowance) else math.inf
    found = rebuilt_rows(objective, train, rho, draws)
    tell.done()
    numbers |= found.numbers
    if math.isinf(rho):
        return None
    numbers |= check_held(it.run, it.model.network, found.minimum.theta, objective.noise_std(len(train), rho)).numbers
    return all_rows(found, train, numbers["epsilon_order2"])
