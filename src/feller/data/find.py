"""From a path to the numbers that lie there."""

import pathlib

from feller.data import idx, overview
from feller.data.arrays import find_arrays
from feller.data.folders import find_pictures
from feller.data.found import Found
from feller.data.pictures import ENDINGS, read_pictures
from feller.data.sizes import LONGEST
from feller.data.tables import find_table
from feller.errors import InputError

TABLES = (".csv", ".tsv", ".txt", ".parquet")
ARRAYS = (".npz", ".npy")


def find(path: pathlib.Path, size: int | None = None, limit: int | None = LONGEST) -> Found:
    """Read a file or a folder, whatever it is.

    Args:
        path: Where it lies.
        size: Longer side that pictures shall have, in pixels; None to keep it up to `limit`.
        limit: Longest side that is kept; None for no limit.

    Raises:
        InputError: If nothing is there, or nothing that can be read.
    """
    try:
        return _find(path, size, limit)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _find(path: pathlib.Path, size: int | None, limit: int | None) -> Found:
    ending = path.suffix.lower()
    if path.is_dir():
        return _find_in_folder(path, size, limit)
    if not path.exists():
        raise InputError(f"expected a file or a folder at {path}, found none")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    if idx.ANY.fullmatch(path.name):
        return idx.find_idx(path, size, limit)
    if ending in TABLES:
        return find_table(path)
    if ending in ARRAYS:
        return find_arrays(path, size, limit)
    if ending in ENDINGS:
        values, notes = read_pictures([path], size, limit)
        return Found(values, levels=255, notes=(*notes, "the data are a single picture"))
    raise InputError(
        f"{path}: cannot tell what it is by its ending; expected {', '.join((*TABLES, *ARRAYS, *ENDINGS))},"
        " idx3-ubyte, or a folder of pictures"
    )


def _find_in_folder(folder: pathlib.Path, size: int | None, limit: int | None) -> Found:
    if not any(folder.iterdir()):
        raise InputError(f"{folder}: the folder is empty")
    chosen = idx.choose(folder)
    if chosen is not None:
        found = idx.find_idx(chosen[0], size, limit)
        return Found(found.values, found.labels, found.classes, notes=(*chosen[1], *found.notes))
    if overview.is_ours(folder / overview.NAME) and (folder / overview.TABLE).is_file():
        return find_table(folder / overview.TABLE)
    return find_pictures(folder, size, limit)
