"""Command `feller steer`."""

from typing import Any

from feller.app.config import SteerConfig


def run(config: SteerConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller steer` and return the metrics and paths for the JSON output; `words` are not used."""
    from feller.app.terminal import make_reporter, show_metrics, show_own_warnings
    from feller.app.workflows.run_config import find_run
    from feller.app.workflows.steer import check_steer_options, steer
    from feller.app.workflows.steering.reward_search import RewardSearchResult

    check_steer_options(config)
    reporter = make_reporter()
    run = find_run(config.folder, config.loading.code, reporter)
    with show_own_warnings(reporter):
        result, page = steer(run, config, reporter=reporter)
    show_metrics({**result.numbers, "report": page}, reporter)
    reporter.log(f"{result.numbers['n']:,} samples: {result.path}")
    notice = {"sketch": result.sketch} if isinstance(result, RewardSearchResult) and result.sketch else {}
    return {"run": str(run.path), "samples": str(result.path), **result.numbers, **notice, "report": page}
