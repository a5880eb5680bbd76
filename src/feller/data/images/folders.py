"""Folders of pictures, with a sub-folder for each class or without."""

import pathlib

import numpy as np

from feller.data.files import sample_folder
from feller.data.images.load_images import ENDINGS, read_pictures
from feller.data.loading.class_folders import classed
from feller.data.loading.raw import FoundPictures


def find_pictures(folder: pathlib.Path, size: int | None, limit: int | None) -> FoundPictures:
    """Read the pictures of a folder; the names of its sub-folders are the classes.

    Raises:
        InputError: If there are none, or if some lie beside the sub-folders of others.
    """
    held = classed(folder, ENDINGS, "pictures")
    if held.labels is None:
        values, told = read_pictures(held.loose, size, limit)
        return FoundPictures(values, levels=255, notes=(*held.notes, *told))
    pairs, names = [*zip(held.files, held.labels.tolist(), strict=True)], tuple(held.classes)
    if sample_folder.is_ours(folder / sample_folder.NAME):  # our samples are numbered through all classes
        pairs.sort(key=lambda pair: pair[0].name)
        names = tuple(sample_folder.class_name(name) for name in names)
    values, told = read_pictures([path for path, _ in pairs], size, limit)
    return FoundPictures(values, np.array([i for _, i in pairs]), names, levels=255, notes=(*held.notes, *told))
