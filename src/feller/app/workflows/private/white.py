"""What white is in the pictures of a private fit: said by the file or its type, and never seen in the pixels."""

import pathlib
from dataclasses import replace

from feller.core.errors import InputError
from feller.data.files.numpy_files import load
from feller.data.images import idx
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.images.one_kind import check_one_kind
from feller.data.loading.interpret import SAMPLES
from feller.data.modality import Dataset, Modality

ARRAYS = (".npz", ".npy")
BY_TYPE = {"uint8": 255, "bool": 1}
"""Value of white in arrays of a type that do not say it."""


def check_white(data: str, like: Modality | None) -> int | None:
    """Return the value of white that arrays have by their type; None where the data say it, or are no arrays.

    Args:
        data: What a person named.
        like: Modality that the pictures are to have.

    Raises:
        InputError: If only the pixels could tell, or pictures of a folder are of several sizes or colours.
    """
    path = pathlib.Path(data)
    if path.is_dir() and idx.choose(path) is None:
        check_one_kind(path)
        return None
    kind = "uint8" if path.is_dir() or idx.ANY.fullmatch(path.name) else _type_of(path)
    if kind is None:
        return None
    white = BY_TYPE.get(kind)
    if white is None or (isinstance(like, Images) and like.levels != white):
        raise InputError(
            f"{data}: white must not be guessed from the pixels in a private fit, and {kind} does not say it; add an"
            " array `levels` with its value, or give uint8 from 0 to 255"
        )
    return white


def _type_of(path: pathlib.Path) -> str | None:
    """Return the type of an array of pictures that does not say what white is; None of all else."""
    if path.suffix.lower() not in ARRAYS or not path.is_file():
        return None
    arrays = load(path)
    named = [arrays[name] for name in SAMPLES if name in arrays] or list(arrays.values())
    pictures = [array for array in named if array.ndim in (3, 4) and array.dtype.kind in "biuf"]
    return str(pictures[0].dtype) if pictures and "levels" not in arrays else None


def with_white(dataset: Dataset, data: str, like: Modality | None) -> Dataset:
    """Return pictures whose white follows from no pixel; other data as they are. Arguments and errors as above."""
    if not isinstance(dataset.modality, Images | Labelled):
        return dataset
    white = check_white(data, like.pictures if isinstance(like, Labelled) else like)
    if white is None or not isinstance(dataset.modality, Images):
        return dataset
    return replace(dataset, modality=replace(dataset.modality, levels=white))
