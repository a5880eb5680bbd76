"""Files of a folder that are one example each, with a sub-folder for each class or without."""

import pathlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from feller.core.errors import InputError
from feller.data.files import sample_folder
from feller.data.path_checks import is_outside


@dataclass(frozen=True)
class ClassFolders:
    """What was found: files in the folder itself, or by class, in order."""

    unclassified: list[pathlib.Path]
    classes: dict[str, list[pathlib.Path]]
    notes: tuple[str, ...]
    """What was skipped."""

    @property
    def files(self) -> list[pathlib.Path]:
        """All of them."""
        return self.unclassified + [path for files in self.classes.values() for path in files]

    @property
    def labels(self) -> np.ndarray | None:
        """Number of the class of each file, [n]; None without classes."""
        counts = [len(files) for files in self.classes.values()]
        return np.repeat(np.arange(len(counts)), counts) if counts else None


def list_class_folders(folder: pathlib.Path, endings: tuple[str, ...], what: str) -> ClassFolders:
    """Return the files of a folder with one of the endings, and those of its sub-folders, whose names are the classes.

    InputError if there are none of `what`, such as pictures, or if some lie beside the sub-folders of others.
    """
    skipped: Counter[str] = Counter()
    loose, folders = _sort(folder, folder, endings, what, skipped)
    classes: dict[str, list[pathlib.Path]] = {}
    for inner in folders:
        files, deeper = _sort(inner, folder, endings, what, skipped)
        skipped["folders inside sub-folders"] += len(deeper)
        if files and inner.name.encode(errors="replace").decode() != inner.name:
            raise InputError(
                f"the sub-folder {inner.name!a} has a name that is no UTF-8", remedy="Rename it", file=folder
            )
        if files:
            classes[inner.name] = files
        elif not deeper:
            skipped[f"sub-folders without {what}"] += 1
    notes = tuple(f"skipped {each} ({count})" for each, count in skipped.items() if count)
    if loose and classes:
        raise InputError(
            f"{len(loose)} {what} ({loose[0].name}, ...) lie beside the folders of {len(classes)} classes",
            remedy="Move them into one of these folders, or away",
            file=folder,
        )
    if not loose and not classes:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(f"{what} ({', '.join(endings)}) in it or its sub-folders", f"none{reasons}", file=folder)
    return ClassFolders(loose, classes, notes)


def _sort(
    folder: pathlib.Path, root: pathlib.Path, endings: tuple[str, ...], what: str, skipped: Counter[str]
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Return the files and the folders inside, sorted by name; count what is neither."""
    files, folders = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__MACOSX":
            skipped["hidden files"] += 1
        elif path.is_symlink() and is_outside(path, root):
            skipped["links that lead out of the folder"] += 1
        elif path.is_dir():
            folders.append(path)
        elif not path.name.lower().endswith(endings) or not path.is_file():
            skipped[f"files that are no {what}"] += 1
        elif not sample_folder.is_overview(path):
            files.append(path)
    return files, folders
