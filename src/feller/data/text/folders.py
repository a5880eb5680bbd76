"""Folders of texts, one in each file, with a sub-folder for each class or without."""

import pathlib
import re

import numpy as np

from feller.core.errors import InputError
from feller.data.files.data_plain_text import read_unicode
from feller.data.loading.class_folders import classed
from feller.data.loading.raw import FoundTexts, as_objects
from feller.data.tally import first_of
from feller.data.text.sniff import holds_texts

ENDINGS = (".txt", ".txt.gz")
FILES_LOOKED = 100
"""Files that are looked into, to tell texts from tables of numbers."""


def are_texts(files: list[pathlib.Path]) -> bool:
    """Tell whether files are texts for the most part, and none of them has another ending."""
    if not files or not all(path.name.lower().endswith(ENDINGS) for path in files):
        return False
    some = [path for path in files if path.stat().st_size][:FILES_LOOKED]
    return 2 * sum(map(holds_texts, some)) > len(some)


def find_texts_in(folder: pathlib.Path) -> FoundTexts:
    """Read each file as one text; the names of sub-folders are the classes. One that is alone is a text like any other.

    Raises:
        InputError: If there are none, if some lie beside the sub-folders of others, or if one is no UTF-8.
    """
    held = classed(folder, ENDINGS, "texts")
    read = [re.sub("\r\n?", "\n", read_unicode(path)) for path in held.files]
    names = [path.relative_to(folder).as_posix() for path in held.files]
    kept = [i for i, text in enumerate(read) if text.strip()]
    empty = [name for name, text in zip(names, read, strict=True) if not text.strip()]
    if not kept:
        raise InputError(f"{folder}: the files hold no text")
    alone = len(kept) == 1
    notes = [*held.notes, *([] if alone else [f"each of the {len(kept):,} files is an example"])]
    if empty:
        notes.append(f"left out {len(empty):,} of {len(read):,} files, which hold no text: {first_of(empty)}")
    labels = None if held.labels is None else held.labels[kept]
    classes = tuple(held.classes) if labels is not None else ()
    if labels is not None:  # a class may have lost all its files
        present = np.unique(labels)
        labels, classes = np.searchsorted(present, labels), tuple(classes[i] for i in present)
    return FoundTexts(
        as_objects([read[i] for i in kept]),
        labels,
        classes,
        notes=tuple(notes),
        names=() if alone else tuple(names[i] for i in kept),
        documents=not alone,
    )
