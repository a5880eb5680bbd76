"""Command `feller evaluate`."""

from typing import Any

from feller.app.config import EvaluateConfig


def run(config: EvaluateConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller evaluate` and return the metrics for the JSON output; `words` are not used."""
    from feller.app.terminal import make_reporter, show_metrics
    from feller.app.workflows.evaluate import evaluate
    from feller.app.workflows.run_config import find_run

    reporter = make_reporter()
    run = find_run(config.folder, config.loading.code, reporter)
    metrics = evaluate(run, config, reporter=reporter)
    show_metrics(metrics, reporter)
    return {"run": str(run.path), **metrics}
