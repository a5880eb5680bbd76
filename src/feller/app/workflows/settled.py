"""Weights that a training may replace while they are read."""

from collections.abc import Callable
from typing import Any, TypeVar

from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.core.user_code import fingerprint
from feller.training.checkpoint import read_counters

T = TypeVar("T")
TRIES = 5
"""How often they may be replaced before it is said."""


def settled(run: Run, take: Callable[[], T]) -> tuple[T, dict[str, Any]]:
    """Take something of a run's average weights, again if they were replaced meanwhile, and say of which it is.

    Args:
        run: Holds them; another process may train it.
        take: Reads them, and says so where there are none.

    Returns:
        What was taken; and `weights`, the hash of their file, with `step`, after which they are.

    Raises:
        InputError: If the run is damaged, or its weights are replaced each time.
    """
    before = _which(run)
    for _ in range(TRIES):
        taken, now = take(), _which(run)
        if now == before:
            return taken, now
        before = now
    raise InputError(f"the weights of {run.path} are replaced while they are read; wait until its fit is done")


def _which(run: Run) -> dict[str, Any]:
    if not run.average.is_file():
        return {}
    return {"weights": fingerprint(run.average), "step": read_counters(run)["step"]}
