"""A folder whose files are written aside, and take their places when all are whole."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from feller.core.serialization import named

BEGUN = ".begun-"
"""How the folder inside begins in which files wait; a killed process leaves it, and the next one removes it."""


def content(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return what a folder holds, but for what a killed process left; nothing where it is not there."""
    return [path for path in folder.iterdir() if not path.name.startswith(BEGUN)] if folder.is_dir() else []


@contextlib.contextmanager
def staged(folder: pathlib.Path, first: str) -> Iterator[pathlib.Path]:
    """Yield an empty folder, whose files replace those of the same name at the end, or none of them after an error.

    A link in the place of a file is replaced, not followed.

    Args:
        folder: Where the files go; made if it is not there.
        first: The file by which the folder is known; it takes its place before the others.

    Raises:
        InputError: If a folder is where a file goes.
        OSError: If the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{BEGUN}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder, prefix=BEGUN) as aside:
        yield pathlib.Path(aside)
        written = sorted(pathlib.Path(aside).iterdir(), key=lambda file: (file.name != first, file.name))
        for place in [folder / file.name for file in written]:
            with named(place):
                if place.is_dir() and not place.is_symlink():
                    raise IsADirectoryError
        for file in written:
            os.replace(file, folder / file.name)
