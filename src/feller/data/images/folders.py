"""Folders of pictures, with a sub-folder for each class or without."""

import pathlib
from collections import Counter

import numpy as np

from feller.data import overview
from feller.data.found import FoundPictures
from feller.data.images.pictures import ENDINGS, read_pictures
from feller.data.links import leads_out
from feller.errors import InputError


def find_pictures(folder: pathlib.Path, size: int | None, limit: int | None) -> FoundPictures:
    """Read the pictures of a folder; the names of its sub-folders are the classes.

    Raises:
        InputError: If there are none, or if some lie beside the sub-folders of others.
    """
    skipped: Counter[str] = Counter()
    loose, folders = _sort(folder, folder, skipped)
    classes: dict[str, list[pathlib.Path]] = {}
    for inner in folders:
        files, deeper = _sort(inner, folder, skipped)
        skipped["folders inside sub-folders"] += len(deeper)
        if files and inner.name.encode(errors="replace").decode() != inner.name:
            raise InputError(f"{folder}: the sub-folder {inner.name!a} has a name that is no UTF-8; rename it")
        if files:
            classes[inner.name] = files
        elif not deeper:
            skipped["sub-folders without pictures"] += 1
    notes = tuple(f"skipped {what} ({count})" for what, count in skipped.items() if count)
    if loose and classes:
        raise InputError(
            f"{folder}: {len(loose)} pictures ({loose[0].name}, ...) lie beside the folders of {len(classes)} classes;"
            " move them into one of these folders, or away"
        )
    if not loose and not classes:
        said = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(f"{folder}: expected pictures ({', '.join(ENDINGS)}) in it or its sub-folders, got none{said}")
    if loose:
        values, told = read_pictures(loose, size, limit)
        return FoundPictures(values, levels=255, notes=(*notes, *told))
    pairs, names = [(path, i) for i, files in enumerate(classes.values()) for path in files], tuple(classes)
    if overview.is_ours(folder / overview.NAME):  # our samples are numbered through all classes
        pairs.sort(key=lambda pair: pair[0].name)
        names = tuple(overview.class_name(name) for name in names)
    values, told = read_pictures([path for path, _ in pairs], size, limit)
    return FoundPictures(values, np.array([i for _, i in pairs]), names, levels=255, notes=(*notes, *told))


def _sort(
    folder: pathlib.Path, root: pathlib.Path, skipped: Counter[str]
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Return the pictures and the folders inside, sorted by name; count what is neither."""
    files, folders = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__MACOSX":
            skipped["hidden files"] += 1
        elif path.is_symlink() and leads_out(path, root):
            skipped["links that lead out of the folder"] += 1
        elif path.is_dir():
            folders.append(path)
        elif path.suffix.lower() not in ENDINGS or not path.is_file():
            skipped["files that are no pictures"] += 1
        elif not overview.is_ours(path):
            files.append(path)
    return files, folders
