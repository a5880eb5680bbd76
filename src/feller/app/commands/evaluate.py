"""feller evaluate."""

from typing import Any

from feller.app.config import EvaluateConfig


def run(config: EvaluateConfig, words: list[str]) -> dict[str, Any]:
    """Evaluate."""
    from feller.app.terminal import show, speaker
    from feller.app.workflows.evaluate import evaluate
    from feller.app.workflows.run_config import find_run

    tell = speaker()
    run = find_run(config.folder, config.opening.code, tell)
    numbers = evaluate(run, config, tell=tell)
    show(numbers, tell)
    return {"run": str(run.path), **numbers}
