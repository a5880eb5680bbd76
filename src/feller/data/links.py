"""Links in folders of strangers."""

import os
import pathlib


def leads_out(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Tell whether a file, or what it is a link to, lies outside a folder: a stranger's data show none of ours."""
    return not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)
