"""Suggestion of the next command for a bridge, and detection of undertrained bridges."""

import itertools
import pathlib
from dataclasses import replace

from feller.app.workflows.bridges.bridge_run import BridgeRecord, bridge_command, continue_command, last_field_words
from feller.app.workflows.run_status import UNDERTRAINED_FRACTION
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.core.run_folder import Run


def undertrained_bridge_notice(
    run: Run, record: BridgeRecord, settings: BridgeSolverConfig, default_settings: BridgeSolverConfig, rounds: int
) -> str:
    """Return a notice if a bridge has one round, or far fewer steps or pairs than the default, else an empty text."""
    steps, default_steps, default_rounds = (
        settings.train.steps or 1,
        default_settings.train.steps or 1,
        default_settings.rounds or 1,
    )
    has_few_pairs = _few(settings, default_settings)
    if not rounds or (
        rounds > 1 and rounds * steps >= UNDERTRAINED_FRACTION * default_steps * default_rounds and not has_few_pairs
    ):
        return ""
    has_few_steps = steps < UNDERTRAINED_FRACTION * default_steps
    shortfalls = [f"{steps:,} steps"] * has_few_steps + [f"{settings.pairs:,} pairs"] * has_few_pairs
    if rounds > 1 and not shortfalls:
        shortfalls = [f"{steps:,} steps"]
    rounds_text = "1 round" if rounds == 1 else f"{rounds} rounds"
    shortfall_text = f" of {' and '.join(shortfalls)}" if shortfalls else ""
    command, _ = suggest_command(run, record, settings, default_settings, rounds, is_undertrained=True)
    advice = "its number of pairs is fixed, so start a new one" if has_few_pairs else "resume with"
    return f"Undertrained ({rounds_text}{shortfall_text}); {advice}: {command}"


def suggest_command(
    run: Run,
    record: BridgeRecord,
    settings: BridgeSolverConfig,
    default_settings: BridgeSolverConfig,
    rounds: int,
    *,
    is_undertrained: bool = False,
    needs_longer_rounds: bool = False,
) -> tuple[str, str]:
    """Return the command that would improve a bridge, and a description of the command.

    Args:
        run: Run folder.
        record: Bridge record.
        settings: Solver settings.
        default_settings: Default settings for the modality.
        rounds: Number of completed rounds.
        is_undertrained: True to suggest the default training settings. If the bridge has too few pairs, the command
            fits a new bridge, because the number of pairs cannot change on resuming.
        needs_longer_rounds: True to suggest longer rounds.
    """
    steps, default_rounds = settings.train.steps or 1, default_settings.rounds or 1
    if not is_undertrained:
        step_args = ("--train.steps", 2 * steps) if needs_longer_rounds else ()
        description = "train for four more rounds" + (", each twice as long" if needs_longer_rounds else "")
        return continue_command(run, record, "--rounds", rounds + 4, *step_args), description
    defaults = _short(settings, default_settings)
    if not _few(settings, default_settings):
        args = [arg for name, value in defaults.items() for arg in (f"--{name}", value)]
        return continue_command(run, record, "--rounds", max(default_rounds, rounds + 2), *args), "continue training"
    new_record = replace(record, fields=tuple(last_field_words(record.fields, defaults)))
    new_settings = replace(settings, rounds=default_rounds, pairs=default_settings.pairs)
    return bridge_command(
        new_record, new_settings, _free_folder(run)
    ), f"start a new bridge with {default_settings.pairs:,} pairs"


def _short(settings: BridgeSolverConfig, default_settings: BridgeSolverConfig) -> dict[str, int]:
    """Return the fields of the settings that have fewer steps than by default, each with its default."""
    counts = {
        "train.steps": (settings.train.steps, default_settings.train.steps),
        "control.steps": (settings.control.steps, default_settings.control.steps),
        "nfe": (settings.nfe, default_settings.nfe),
    }
    return {name: default or 1 for name, (current, default) in counts.items() if (current or 1) < (default or 1)}


def _free_folder(run: Run) -> pathlib.Path:
    paths = (run.path.with_name(f"{run.path.name}-{number}") for number in itertools.count(2))
    return next(path for path in paths if not path.exists())


def _few(settings: BridgeSolverConfig, default_settings: BridgeSolverConfig) -> bool:
    return settings.pairs < UNDERTRAINED_FRACTION * default_settings.pairs
