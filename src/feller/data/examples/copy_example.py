"""A copy of the files that an example is made of, to look at, or to begin one's own with."""

import pathlib
import shutil

from feller.core.errors import UsageError
from feller.data.examples.loaders import EXAMPLES


def copy_example(name: str, out: pathlib.Path) -> int:
    """Copy the folder of an example, and return how many files that are.

    Args:
        name: Of the example.
        out: A folder that is not there yet, or empty.

    Raises:
        UsageError: If the example has no folder, or something is there already.
    """
    folder = EXAMPLES[name].folder
    if folder is None:
        having = ", ".join(other for other, example in EXAMPLES.items() if example.folder)
        raise UsageError(f"example:{name} is made of no folder; these are: {having}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already; name a new folder")
    shutil.copytree(folder, out, dirs_exist_ok=True)
    return sum(path.is_file() for path in out.rglob("*"))
