"""From a path to the numbers that lie there."""

import pathlib
import sys

from feller.data import chains, idx, overview
from feller.data.arrays import find_arrays
from feller.data.crystals import files
from feller.data.crystals import find as crystals
from feller.data.folders import find_pictures
from feller.data.found import Found
from feller.data.molecules import collect
from feller.data.names import torsions_among
from feller.data.pictures import ENDINGS, read_pictures
from feller.data.sizes import LONGEST
from feller.data.tables import Choose, find_table
from feller.data.text.files import find_column, find_json_lines, find_text
from feller.data.text.sniff import holds_texts
from feller.data.text.text import LINES, WHOLE
from feller.errors import InputError

TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
ARRAYS = (".npz", ".npy")
STRUCTURES = (*chains.ENDINGS, *collect.ENDINGS, *files.ENDINGS)
TEXTS = {
    **dict.fromkeys((".txt", ".txt.gz"), find_text),
    **dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz"), find_column),
    **dict.fromkeys((".jsonl", ".jsonl.gz"), find_json_lines),
}
"""What reads texts, by the ending of the file, which may hold something else too."""


def find(
    path: pathlib.Path, size: int | None = None, limit: int | None = LONGEST, choose: Choose = torsions_among
) -> Found:
    """Read a file or a folder, whatever it is.

    Args:
        path: Where it lies.
        size: Longer side that pictures shall have, in pixels; None to keep it up to `limit`. Of chains, the most
            residues; of molecules and crystals, the most atoms.
        limit: Longest side that is kept; None for no limit, also to chains, molecules and crystals.
        choose: Which columns of a table are read, where cells are missing.

    Raises:
        InputError: If nothing is there, or nothing that can be read.
    """
    try:
        return _find(path, size, limit, choose)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def find_texts(path: pathlib.Path) -> Found:
    """Read texts, also those that look like numbers; what cannot hold any is read as by `find`.

    Raises:
        InputError: If nothing is there, or nothing that can be read.
    """
    reader = TEXTS.get(_ending(path))
    if reader is None or not path.is_file() or path.stat().st_size == 0:
        return find(path, limit=None)
    try:
        return reader(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _find(path: pathlib.Path, size: int | None, limit: int | None, choose: Choose) -> Found:
    ending = _ending(path)
    if path.is_dir():
        return _find_in_folder(path, size, limit, choose)
    if not path.exists():
        raise InputError(f"expected a file or a folder at {path}, found none")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    if idx.ANY.fullmatch(path.name):
        return idx.find_idx(path, size, limit)
    if ending in files.ENDINGS or files.holds_crystals(path):
        return crystals.find_crystals(path, crystals.most_atoms(size, limit))
    if ending in TEXTS and holds_texts(path):
        return TEXTS[ending](path)
    if ending in TABLES:
        return find_table(path, choose)
    if ending in chains.ENDINGS:
        return chains.find_backbones(path, _residues(size, limit))
    if ending in collect.ENDINGS:
        return collect.find_molecules(path, collect.most_atoms(size, limit))
    if ending in ARRAYS:
        return find_arrays(path, size, limit)
    if ending in ENDINGS:
        values, notes = read_pictures([path], size, limit)
        return Found(values, levels=255, notes=(*notes, "the data are a single picture"))
    raise InputError(
        f"{path}: cannot tell what it is by its ending; expected"
        f" {', '.join((*TABLES, *ARRAYS, *ENDINGS, *STRUCTURES))}, idx3-ubyte, or a folder of pictures or structures"
    )


def _ending(path: pathlib.Path) -> str:
    """Return the end of a name that tells the kind, also of a file that is packed."""
    last = path.suffix.lower()
    return f"{path.with_suffix('').suffix.lower()}{last}" if last == ".gz" else last


def _residues(size: int | None, limit: int | None) -> int:
    """Return the length beyond which a chain is left out."""
    return size or (sys.maxsize if limit is None else chains.LONGEST)


def _find_in_folder(folder: pathlib.Path, size: int | None, limit: int | None, choose: Choose) -> Found:
    if not any(folder.iterdir()):
        raise InputError(f"{folder}: the folder is empty")
    chosen = idx.choose(folder)
    if chosen is not None:
        found = idx.find_idx(chosen[0], size, limit)
        return Found(found.values, found.labels, found.classes, notes=(*chosen[1], *found.notes))
    if overview.is_ours(folder / overview.NAME) and (folder / overview.TABLE).is_file():
        return find_table(folder / overview.TABLE, choose)
    if overview.is_ours(folder / overview.NAME) and (folder / LINES).is_file():
        return find_json_lines(folder / WHOLE) if (folder / WHOLE).is_file() else find_text(folder / LINES)
    if any(_ending(path) in chains.ENDINGS for path in folder.iterdir()):
        return chains.find_backbones(folder, _residues(size, limit))
    if any(_ending(path) in collect.ENDINGS for path in folder.iterdir()):
        return collect.find_molecules(folder, collect.most_atoms(size, limit))
    if any(_ending(path) in files.ENDINGS for path in folder.iterdir()):
        return crystals.find_crystals(folder, crystals.most_atoms(size, limit))
    return find_pictures(folder, size, limit)
