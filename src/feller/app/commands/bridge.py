"""feller bridge."""

from typing import Any

from feller.app.commands.arguments import change_fields, check_names
from feller.app.config import BridgeConfig
from feller.app.options import changed
from feller.core.errors import UsageError

DEEP = "--cost"
"""The flag with which the help shows the fields of the settings, too."""


def run(config: BridgeConfig, words: list[str]) -> dict[str, Any]:
    """Make a bridge; `words` set fields of the settings."""
    resume = config.output.resume
    if resume and (config.data or (config.costs and not any(".py:" in text for text in config.costs))):
        raise UsageError(
            "a resumed bridge knows its populations and costs",
            remedy="Name its run alone, with --out; only where a cost is code of yours (--cost file.py:FUNCTION)"
            " all are named again, for no run makes code run",
        )
    wrong = [name for name in changed(config) if name in _BEGUN]
    if resume and wrong:
        raise UsageError(
            "a resumed bridge keeps what it began with", remedy=f"Leave out --{wrong[0].replace('_', '-')}"
        )
    from feller.app.workflows.bridges.is_bridge import check_several

    if not resume and "--help" not in words:
        check_several(config.data)
    check_names(words, BridgeConfig, "feller.control.bridges.bridge_config:BridgeSolverConfig")
    from feller.app.reporter import speaks
    from feller.app.terminal import heard, show, speaker
    from feller.app.workflows.bridge import bridge
    from feller.app.workflows.run_status import sketch_of
    from feller.control.bridges.bridge_config import BridgeSolverConfig

    def change(settings: BridgeSolverConfig) -> BridgeSolverConfig:
        return change_fields(settings, words, "bridge A B") if words else settings

    tell = speaker()
    with heard(tell):
        run, numbers = bridge(config, change=change, fields=tuple(words), tell=tell)
    show(numbers, tell)
    tell.say(f"paths and pairs: {run.path}; push others through it with: feller sample {run.path} --from FILE")
    if speaks() and (sketch := sketch_of(run)):
        tell.say(sketch)
    return {"run": str(run.path), **numbers}


_BEGUN = ("times", "frame", "noise", "pairs", "resample", "growth", "longest", "seed")
"""Flags of what a bridge began with."""
