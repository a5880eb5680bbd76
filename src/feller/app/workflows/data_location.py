"""Where the data of a run are, seen from another folder than the one in which it was fitted."""

import os
import pathlib

from feller.core.run_folder import Run
from feller.data.examples.registry import EXAMPLE

ABOVE = 3
"""Folders above a run in which its data are looked for: a run lies in `runs`, or in a folder of runs there."""


def whereabouts(data: str, run: Run) -> str:
    """Return where data are: as recorded, or by the folders above the run, among which is that of the fit.

    Whoever reads them compares their fingerprint with the recorded one, so that others of that name are noticed.

    Args:
        data: As the run records it.
        run: Where it lies now.

    Returns:
        A path from here, or what is recorded where there is none.
    """
    place = pathlib.Path(data)
    if not data or data.startswith(EXAMPLE) or place.is_absolute() or ".." in place.parts or place.exists():
        return data
    for folder in [*run.path.resolve().parents][:ABOVE]:
        if (folder / place).exists():
            return os.path.relpath(folder / place)
    return data
