"""Folders with one example per file, optionally in one subfolder per class."""

import os
import pathlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from feller.core.errors import InputError
from feller.data.files import sample_folder
from feller.data.labels import abbreviated
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


@dataclass(frozen=True)
class FolderOptions:
    """Options for listing the files of a folder."""

    nested: bool = False
    """True to read the files of all folders inside a subfolder as well; their class is the subfolder."""
    links: bool = False
    """True to follow symbolic links that point outside the folder."""

    @property
    def used(self) -> str:
        """Name of the first option that is set; empty without one."""
        return "nested" if self.nested else "links" if self.links else ""


DEFAULT_FOLDERS = FolderOptions()
"""Options that read class folders only, and follow no links to the outside."""


def list_class_folders(
    folder: pathlib.Path,
    endings: tuple[str, ...],
    what: str,
    options: FolderOptions = DEFAULT_FOLDERS,
    unreadable: Mapping[str, str] | None = None,
) -> ClassFolders:
    """Return the files with a suffix in `endings` in a folder or its subfolders; the subfolders are the classes.

    Args:
        folder: Folder to list.
        endings: Suffixes of the files.
        what: Type of the files in messages, such as "images".
        options: Folders and links to follow.
        unreadable: Suffixes of files of this type that cannot be read, and for each the reason.

    Raises:
        InputError: If there are no files, or some files are outside the class subfolders although these exist.
    """
    listing = _Listing(folder, endings, what, options, unreadable or {})
    loose, folders = listing.sort(folder)
    classes: dict[str, list[pathlib.Path]] = {}
    empty = []
    for subfolder in folders:
        files, has_more = listing.files_in(subfolder)
        if files and subfolder.name.encode(errors="replace").decode() != subfolder.name:
            raise InputError(
                f"the subfolder {subfolder.name!a} has a name that is not UTF-8",
                remedy="Rename the subfolder",
                file=folder,
            )
        if files:
            classes[subfolder.name] = files
        elif not has_more:
            empty.append(ascii(subfolder.name)[1:-1] if not subfolder.name.isprintable() else subfolder.name)
    notes = tuple(f"skipped {reason} ({count})" for reason, count in listing.skipped.items() if count)
    notes += (f"skipped subfolders without {what} ({len(empty)}): {abbreviated(empty)}",) if empty else ()
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


class _Listing:
    """Sorting of the entries of a folder; `skipped` counts those that are left out, by reason."""

    def __init__(
        self,
        root: pathlib.Path,
        endings: tuple[str, ...],
        what: str,
        options: FolderOptions,
        unreadable: Mapping[str, str],
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._root, self._endings, self._what, self._options = root, endings, what, options
        self._unreadable = unreadable
        self._visited = {os.path.realpath(root)}  # linked folders may contain themselves

    def files_in(self, folder: pathlib.Path) -> tuple[list[pathlib.Path], bool]:
        """Return the files of a class subfolder, and whether it has subfolders that are left out."""
        files, folders = self.sort(folder)
        if not self._options.nested:
            self.skipped["nested subfolders, which --nested includes"] += len(folders)
            return files, bool(folders)
        for subfolder in folders:
            files += self.files_in(subfolder)[0]
        return files, False

    def sort(self, folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
        """Return the files of a folder that are read, and its subfolders, sorted by name."""
        files, folders = [], []
        for path in sorted(folder.iterdir()):
            ending = path.suffix.lower()
            if path.name.startswith(".") or path.name == "__MACOSX":
                self.skipped["hidden files"] += 1
            elif path.name == CAPTIONS_FILE:
                continue
            elif path.is_symlink() and not self._options.links and is_outside(path, self._root):
                self.skipped["links that point outside the folder, which --links follows"] += 1
            elif path.is_dir():
                folders += [path] if self._is_new(path) else []
            elif ending in self._unreadable and path.is_file():
                self.skipped[self._unreadable[ending]] += 1
            elif not path.name.lower().endswith(self._endings) or not path.is_file():
                self.skipped[f"files that are not {self._what}"] += 1
            elif not sample_folder.is_overview(path):
                files.append(path)
        return files, folders

    def _is_new(self, folder: pathlib.Path) -> bool:
        """Return True for a folder that was not visited before, so that a circle of links ends."""
        path = os.path.realpath(folder)
        if path in self._visited:
            self.skipped["folders that were read before, by another link"] += 1
            return False
        self._visited.add(path)
        return True
