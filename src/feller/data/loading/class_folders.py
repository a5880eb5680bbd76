"""Folders with one example per file, optionally in one subfolder per class."""

import pathlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from feller.core.errors import InputError
from feller.data.files import sample_folder
from feller.data.path_checks import is_outside

CAPTIONS_FILE = "captions.csv"
"""File name of the table of conditions in a folder of images."""


@dataclass(frozen=True)
class ClassFolders:
    """Sorted files of a folder, either with one class per subfolder or without classes."""

    unclassified: list[pathlib.Path]
    classes: dict[str, list[pathlib.Path]]
    notes: tuple[str, ...]
    """Notes about skipped files."""

    @property
    def files(self) -> list[pathlib.Path]:
        """All files of the folder, in the order of the classes."""
        return self.unclassified + [path for files in self.classes.values() for path in files]

    @property
    def labels(self) -> np.ndarray | None:
        """Class index of each file, [n]; None without classes."""
        counts = [len(files) for files in self.classes.values()]
        return np.repeat(np.arange(len(counts)), counts) if counts else None


def list_class_folders(folder: pathlib.Path, endings: tuple[str, ...], what: str) -> ClassFolders:
    """Return the files with a suffix in `endings` in a folder or its subfolders; the subfolders are the classes.

    InputError if there are no files of type `what`, such as "images", or some files are outside the class subfolders
    although these exist.
    """
    skipped: Counter[str] = Counter()
    loose, folders = _sort(folder, folder, endings, what, skipped)
    classes: dict[str, list[pathlib.Path]] = {}
    for subfolder in folders:
        files, nested = _sort(subfolder, folder, endings, what, skipped)
        skipped["nested subfolders"] += len(nested)
        if files and subfolder.name.encode(errors="replace").decode() != subfolder.name:
            raise InputError(
                f"the subfolder {subfolder.name!a} has a name that is not UTF-8",
                remedy="Rename the subfolder",
                file=folder,
            )
        if files:
            classes[subfolder.name] = files
        elif not nested:
            skipped[f"subfolders without {what}"] += 1
    notes = tuple(f"skipped {reason} ({count})" for reason, count in skipped.items() if count)
    if loose and classes:
        raise InputError(
            f"{len(loose)} {what} ({loose[0].name}, ...) are outside the subfolders of the {len(classes)} classes",
            remedy="Move these files into one of the subfolders, or elsewhere",
            file=folder,
        )
    if not loose and not classes:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(
            f"{what} ({', '.join(endings)}) in the folder or its subfolders", f"none{reasons}", file=folder
        )
    return ClassFolders(loose, classes, notes)


def _sort(
    folder: pathlib.Path, root: pathlib.Path, endings: tuple[str, ...], what: str, skipped: Counter[str]
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Return the files of a folder that end in one of `endings`, and its subfolders, sorted by name.

    `skipped` counts all other entries by reason, and `what` describes the expected files in these reasons. Links that
    lead outside the folder `root` are skipped.
    """
    files, folders = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__MACOSX":
            skipped["hidden files"] += 1
        elif path.name == CAPTIONS_FILE:
            continue
        elif path.is_symlink() and is_outside(path, root):
            skipped["links that point outside the folder"] += 1
        elif path.is_dir():
            folders.append(path)
        elif not path.name.lower().endswith(endings) or not path.is_file():
            skipped[f"files that are not {what}"] += 1
        elif not sample_folder.is_overview(path):
            files.append(path)
    return files, folders
