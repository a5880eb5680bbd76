"""Command `feller bridge`."""

from typing import Any

from feller.app.commands.arguments import change_fields, check_names
from feller.app.config import BridgeConfig
from feller.app.options import non_default_options
from feller.core.errors import UsageError

NESTED_HELP_FLAG = "--cost"
"""Flag that makes --help list the fields of the bridge solver as well."""


def run(config: BridgeConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller bridge`; `words` are flags that set fields of the bridge solver."""
    resume = config.output.resume
    if resume and (config.data or (config.costs and not any(".py:" in text for text in config.costs))):
        raise UsageError(
            "a resumed bridge takes its populations and costs from its run",
            remedy="Name only the run, with --out; repeat the populations and costs only if a cost is custom code"
            " (--cost file.py:FUNCTION), because a run never executes code that is not named on the command line",
        )
    fixed = [name for name in non_default_options(config) if name in _FIXED_FLAGS]
    if resume and fixed:
        raise UsageError(
            "a resumed bridge keeps its original options", remedy=f"Leave out --{fixed[0].replace('_', '-')}"
        )
    from feller.app.workflows.bridges.bridge_detection import check_several

    if not resume and "--help" not in words:
        check_several(config.data)
    check_names(words, BridgeConfig, "feller.control.bridges.bridge_config:BridgeSolverConfig")
    from feller.app.reporter import is_main_process
    from feller.app.terminal import make_reporter, show_metrics, show_own_warnings
    from feller.app.workflows.bridge import bridge
    from feller.app.workflows.run_status import read_undertrained_notice
    from feller.control.bridges.bridge_config import BridgeSolverConfig

    def change(solver_config: BridgeSolverConfig) -> BridgeSolverConfig:
        return change_fields(solver_config, words, "bridge A B") if words else solver_config

    reporter = make_reporter()
    with show_own_warnings(reporter):
        run, metrics = bridge(config, change=change, field_words=tuple(words), reporter=reporter)
    show_metrics(metrics, reporter)
    reporter.log(f"bridge: {run.path}; transport other samples with: feller sample {run.path} --from FILE")
    if is_main_process() and (notice := read_undertrained_notice(run)):
        reporter.log(notice)
    return {"run": str(run.path), **metrics}


_FIXED_FLAGS = ("times", "frame", "noise", "pairs", "resample", "growth", "longest", "seed")
"""Names of options that cannot be changed when a bridge is resumed."""
