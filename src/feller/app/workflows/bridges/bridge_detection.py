"""Which runs are bridges; asked often, so that nothing of bridges is loaded for it."""

from collections.abc import Sequence

from feller.core.errors import UsageError
from feller.core.run_folder import Run

BRIDGE_KEY = "bridged"
"""In the record of a run: what was asked of a bridge."""


def is_bridge(run: Run) -> bool:
    """Tell whether a run joins populations.

    Raises:
        InputError: If its record is missing or damaged.
    """
    return run.read_record(run.recipe).get(BRIDGE_KEY) is not None


def refuse_bridge(run: Run, what: str) -> None:
    """Refuse what bridges cannot be asked for.

    Raises:
        UsageError: If a run is a bridge; says what it can do instead.
    """
    if is_bridge(run):
        raise UsageError(
            f"is a bridge, which cannot be {what}",
            remedy=f"Push data through it with: feller sample {run.path} --from FILE",
            file=run.path,
        )


def check_several(names: Sequence[str]) -> None:
    """Refuse fewer populations than a bridge joins."""
    if len(names) < 2:
        raise UsageError("a bridge joins two populations or more", found=f"{len(names)}: name A and B")
