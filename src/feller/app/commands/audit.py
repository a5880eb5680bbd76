"""Command `feller audit`."""

from typing import Any

from feller.app.config import CALCULATOR, AuditConfig
from feller.app.option_groups import PlanOptions
from feller.app.options import flags_of
from feller.core.errors import UsageError
from feller.core.run_folder import open_run

PLAN = tuple(flags_of(PlanOptions))
"""Names of the options of the privacy calculator."""


def run(config: AuditConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller audit`: audit a run, or compute the privacy guarantee of planned training.

    Return the metrics for the JSON output; `words` are not used.
    """
    if config.folder == CALCULATOR:
        return _calculate(config)
    open_run(config.folder)  # fail on a missing run before loading torch
    from feller.app.terminal import make_reporter, show_metrics
    from feller.app.workflows.audit import audit, public_page
    from feller.app.workflows.run_config import find_run

    reporter = make_reporter()
    run = find_run(config.folder, config.loading.code, reporter)
    metrics = audit(run, config, reporter=reporter)
    show_metrics(metrics, reporter)
    if metrics.get("report") and (page := public_page(run)) is not None:
        reporter.log(f"page that may be given away: {page}")
    return {"run": str(run.path), **metrics}


def _calculate(config: AuditConfig) -> dict[str, Any]:
    from feller.app.terminal import make_reporter, show_numbers
    from feller.app.workflows.auditing.plan_calculator import bounds, explain, planned_event

    for name in ("data", "shadows", "canaries", "report"):
        if getattr(config, name) is not None:
            raise UsageError(
                f"applies only to the audit of a run; the privacy calculator takes --{', --'.join(PLAN)}", argument=name
            )
    options = config.plan
    delta = 1e-5 if options.delta is None else options.delta
    if options.epsilon is not None:
        return _choose(options, delta)
    for name in ("rows", "examples"):
        if getattr(options, name) is not None:
            raise UsageError("applies only with --epsilon", argument=name)
    metrics = bounds((planned_event(options.noise, options.rate, options.steps),), delta, options.rows_per_user)
    reporter = make_reporter()
    show_numbers(metrics, reporter)
    for sentence in explain(metrics):
        reporter.log(sentence)
    return metrics


def _choose(options: PlanOptions, delta: float) -> dict[str, Any]:
    """Choose batch size and number of steps for a budget, and return them with all plans."""
    from feller.app.terminal import make_reporter, show_numbers
    from feller.app.workflows.auditing.plan_calculator import describe_plan
    from feller.privacy.accounting.training_plan import choose_plan, training_plans

    for name in ("noise", "rate", "steps", "rows_per_user"):
        if getattr(options, name) is not None:
            raise UsageError("applies only without --epsilon", argument=name)
    if options.epsilon is None or options.rows is None or options.examples is None:
        name = "rows" if options.rows is None else "examples"
        raise UsageError("is needed to choose batch size and steps for --epsilon", argument=name)
    plans = training_plans(options.epsilon, delta, options.rows, options.examples)
    metrics = describe_plan(choose_plan(plans))
    reporter = make_reporter()
    show_numbers(metrics, reporter)
    for plan in plans:
        reporter.log(", ".join(f"{name} {value:.4g}" for name, value in describe_plan(plan).items()))
    return {**metrics, "plans": [describe_plan(plan) for plan in plans]}
