"""Files of a folder and of folders inside."""

import os
import pathlib
from collections.abc import Iterator

DEEP = 4
"""Folders inside folders that are looked into."""


def inside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the files in a folder and in folders inside, but for hidden ones, folder by folder."""
    for root, folders, files in os.walk(folder):
        place = pathlib.Path(root)
        deep = len(place.relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")) and deep + 1 < DEEP)
        yield from (place / name for name in sorted(files) if not name.startswith("."))
