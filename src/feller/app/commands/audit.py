"""Command `feller audit`."""

from typing import Any

from feller.app.config import CALCULATOR, AuditConfig, PlanOptions
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
    from feller.app.terminal import make_reporter, show_numbers
    from feller.app.workflows.audit import audit
    from feller.app.workflows.run_config import find_run

    reporter = make_reporter()
    run = find_run(config.folder, config.loading.code, reporter)
    metrics = audit(run, config, reporter=reporter)
    show_numbers(metrics, reporter)
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
    metrics = bounds(
        (planned_event(options.noise, options.rate, options.steps),), 1e-5 if options.delta is None else options.delta
    )
    reporter = make_reporter()
    show_numbers(metrics, reporter)
    for sentence in explain(metrics):
        reporter.log(sentence)
    return metrics
