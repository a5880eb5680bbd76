"""Which runs are bridges; asked often, so that nothing of bridges is loaded for it."""

from feller.run import Run

KEY = "bridged"
"""In the record of a run: what was asked of a bridge."""


def is_bridge(run: Run) -> bool:
    """Tell whether a run joins populations.

    Raises:
        InputError: If its record is missing or damaged.
    """
    return run.read_record(run.recipe).get(KEY) is not None
