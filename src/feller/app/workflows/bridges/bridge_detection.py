"""Detection of bridge runs, without importing the bridge code."""

from collections.abc import Sequence

from feller.core.errors import UsageError
from feller.core.run_folder import Run

BRIDGE_KEY = "bridged"
"""Key of the bridge record in recipe.json."""


def is_bridge(run: Run) -> bool:
    """Return True if a run is a bridge; InputError if the record is missing or damaged."""
    return run.read_record(run.recipe).get(BRIDGE_KEY) is not None


def refuse_bridge(run: Run, what: str) -> None:
    """Raise an error if a run is a bridge, because bridges do not support the operation `what`.

    Raises:
        UsageError: If the run is a bridge; the remedy names the supported command.
    """
    if is_bridge(run):
        raise UsageError(
            f"is a bridge and cannot be {what}",
            remedy=f"Transport samples with: feller sample {run.path} --from FILE",
            file=run.path,
        )


def check_several(names: Sequence[str]) -> None:
    """Raise an error if there are fewer than two populations."""
    if len(names) < 2:
        raise UsageError(
            expected="two or more populations", found=f"{len(names)}", remedy="Give at least two populations, A and B"
        )
