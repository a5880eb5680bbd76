"""Reading of IDX files, the format of MNIST: a short header, then bytes; optionally gzip-compressed."""

import pathlib
import re
import zlib

import numpy as np

from feller.core.errors import InputError
from feller.data.files.decompression import open_gzip
from feller.data.images.image_resizing import resize_arrays
from feller.data.labels import encode_labels
from feller.data.loading.raw import RawImages

IMAGES = re.compile(r"(?P<part>.*)images(?P<dot>[-.])idx(?P<axes>[34])-ubyte(?P<gz>\.gz)?", re.IGNORECASE)
"""File name pattern of an images file; the name of its labels file has `labels` instead of `images`, and `idx1`."""

ANY = re.compile(r".*(idx\d-ubyte|\.idx)(\.gz)?", re.IGNORECASE)
"""File name pattern of any IDX file."""


def parse(path: pathlib.Path) -> np.ndarray:
    """Read a uint8 array with up to 4 axes; InputError if the file is not an IDX file of bytes, or is truncated."""
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        with open_gzip(path) if is_gzip else path.open("rb") as file:
            content = file.read()
        if content[:3] != b"\0\0\x08" or content[3] > 4:
            raise ValueError(f"expected an IDX file of bytes, which starts with 0 0 8, got {content[:4].hex(' ')}")
        shape = np.frombuffer(content, ">u4", content[3], 4).tolist()
        return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)
    except (OSError, EOFError, MemoryError, ValueError, IndexError, zlib.error) as error:
        raise InputError(f"cannot be read ({error}); the file is damaged or truncated", file=path) from error


def labels_path(path: pathlib.Path) -> pathlib.Path | None:
    """Return the labels file that belongs to an images file; None if there is no labels file."""
    match = IMAGES.fullmatch(path.name)
    if match is None:
        return None
    stem = f"{match['part']}labels{match['dot']}idx1-ubyte"
    candidates = {stem.lower(), f"{stem}.gz".lower()}
    return next((other for other in sorted(path.parent.iterdir()) if other.name.lower() in candidates), None)


def load_idx(path: pathlib.Path, size: int | None, limit: int | None) -> RawImages:
    """Read an images file and its labels.

    The longer side of the images becomes `size` pixels, or is at most `limit` if `size` is None.

    InputError if there are no images, or the numbers of images and labels differ.
    """
    values = parse(path)
    if values.ndim not in (3, 4) or 0 in values.shape or (values.ndim == 4 and values.shape[3] not in (1, 3)):
        raise InputError("images [n, h, w] or [n, h, w, c]", list(values.shape), file=path)
    values, notes = resize_arrays(values.reshape(*values.shape[:3], -1), size, limit)
    labels_file = labels_path(path)
    if labels_file is None:
        return RawImages(values, notes=(*notes, f"no labels file found for {path.name}"))
    labels = parse(labels_file)
    if labels.shape != (len(values),):
        raise InputError(f"{len(values)} labels, one per image", list(labels.shape), place=labels_file)
    labels, classes = encode_labels([str(label) for label in labels.tolist()], str(labels_file))
    return RawImages(values, labels, classes, notes=notes)


def choose_images_file(folder: pathlib.Path) -> tuple[pathlib.Path, tuple[str, ...]] | None:
    """Return the images file of a folder, and notes on the choice; None if the folder has no images file.

    InputError if there are several images files, and not exactly one has a name that starts with `train`.
    """
    files = sorted(path for path in folder.iterdir() if IMAGES.fullmatch(path.name) and path.is_file())
    if not files:
        return None
    names = ", ".join(path.name for path in files)
    candidates = [path for path in files if path.name.lower().startswith("train")] if len(files) > 1 else files
    if len(candidates) != 1:
        raise InputError(
            "a single file of images, or a single one whose name starts with train",
            names,
            "Give the file instead of the folder",
            file=folder,
        )
    return candidates[0], ((f"using {candidates[0].name}, out of {names}",) if len(files) > 1 else ())
