"""feller evaluate."""

from typing import Any, cast

from feller.app.config import EvaluateConfig


def run(config: EvaluateConfig, words: list[str]) -> dict[str, Any]:
    """Evaluate."""
    from feller.app.commands.resolve_run import find
    from feller.app.terminal import show, speaker
    from feller.app.workflows.evaluate import evaluate
    from feller.evaluation.effort import Effort

    tell = speaker()
    run = find(config.folder, config.opening.code, tell)
    data = cast(str | None, config.data)
    numbers = evaluate(run, data=data, samples=config.samples, seed=config.seed, effort=Effort(n=config.n), tell=tell)
    show(numbers, tell)
    return {"run": str(run.path), **numbers}
