"""feller audit."""

from typing import Any

from feller.app.config import CALCULATOR, AuditConfig, PlanOptions
from feller.app.options import flags_of
from feller.core.errors import UsageError
from feller.core.run_folder import open_run

PLAN = tuple(flags_of(PlanOptions))
"""Flags of the calculator."""


def run(config: AuditConfig, words: list[str]) -> dict[str, Any]:
    """Audit a run, or a plan."""
    if config.folder == CALCULATOR:
        return _calculate(config)
    open_run(config.folder)  # what is not there is told before what takes long is loaded
    from feller.app.terminal import show, speaker
    from feller.app.workflows.audit import audit
    from feller.app.workflows.run_config import find_run

    tell = speaker()
    run = find_run(config.folder, config.opening.code, tell)
    numbers = audit(run, config, tell=tell)
    show(numbers, tell)
    return {"run": str(run.path), **numbers}


def _calculate(config: AuditConfig) -> dict[str, Any]:
    """Answer without a run."""
    from feller.app.terminal import show, speaker
    from feller.app.workflows.auditing.plan_calculator import bounds, plan, words

    for name in ("data", "shadows", "canaries", "report"):
        if getattr(config, name) is not None:
            raise UsageError(f"is about a run; the calculator takes --{', --'.join(PLAN)}", argument=name)
    asked = config.plan
    found = bounds((plan(asked.noise, asked.rate, asked.steps),), 1e-5 if asked.delta is None else asked.delta)
    tell = speaker()
    show(found, tell)
    for line in words(found):
        tell.say(line)
    return found
