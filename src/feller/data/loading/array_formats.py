"""Recognition of the type of data in arrays, from their names and shapes."""

import pathlib
from dataclasses import replace

import numpy as np

from feller.core.errors import InputError, error_context
from feller.data.crystals.dataset import check_cells, crystals_from_arrays
from feller.data.documents.dataset import arrays_hold_documents, documents_from_arrays
from feller.data.files.numpy_files import load_arrays
from feller.data.files.plain_text import all_numbers
from feller.data.images.image_resizing import resize_arrays
from feller.data.labels import encode_labels
from feller.data.loading.raw import (
    RawArrays,
    RawChains,
    RawCrystals,
    RawDocuments,
    RawExamples,
    RawImages,
    RawMolecules,
    RawPoints,
    RawSpeech,
    RawTable,
    RawTexts,
)
from feller.data.loading.read_options import ReadOptions
from feller.data.molecules.molecule_files import MAX_ATOMS, molecules_from_arrays
from feller.data.points.columns import check_finite
from feller.data.proteins.chains import backbones_from_arrays
from feller.data.speech.dataset import speech_from_arrays

SAMPLES = ("samples", "images", "x")
"""Names under which the array of examples is looked up, in order of preference."""
LABELS = ("labels", "y")
OTHERS = ("classes", "columns", "levels", "mask")


def load_arrays_file(path: pathlib.Path, options: ReadOptions) -> RawExamples:
    """Read an .npz or .npy file of points [n, d], images [n, h, w] or [n, h, w, c], or structures such as molecules.

    Class labels are read if the file has them.

    Raises:
        InputError: If no array is recognised as the examples, or its shape or values are invalid.
    """
    return raw_from_arrays(load_arrays(path), str(path), options)


def raw_from_arrays(arrays: dict[str, np.ndarray], path: str, options: ReadOptions) -> RawExamples:
    """Convert arrays to raw examples, whose type follows from the names and shapes; errors name the source `path`.

    Raises:
        InputError: If no array is recognised as the examples, or its shape or values are invalid.
    """
    if selected := {name: arrays[name] for name in options.condition if name in arrays}:
        rest = {name: array for name, array in arrays.items() if name not in selected}
        raw = raw_from_arrays(rest, path, options)
        for name, column in selected.items():
            if not 1 <= column.ndim <= 4 or len(column) != len(raw.values):
                expected = f"a condition with one entry for each of {len(raw.values)} examples, [n] to [n, h, w, c]"
                raise InputError(expected, list(column.shape), argument=name, file=path)
        return replace(raw, condition_columns=selected)
    if {"element", "place"} <= arrays.keys() and "lattice" not in arrays:
        options.check_type(RawMolecules)
        return molecules_from_arrays(arrays, path, options.max_parts(MAX_ATOMS))
    if {"element", "place", "lattice"} <= arrays.keys():
        options.check_type(RawCrystals)
        labels, classes = _labels(arrays, len(arrays["element"]), path)
        crystals = crystals_from_arrays(arrays, path)
        if not options.is_unlimited:
            with error_context(path):
                check_cells(crystals)
        return replace(crystals, labels=labels, classes=classes)
    if arrays_hold_documents(arrays):
        options.check_type(RawDocuments)
        return documents_from_arrays(arrays, path, options.size, options.limit)
    if {"mel", "valid"} <= arrays.keys():
        options.check_type(RawSpeech)
        return speech_from_arrays(arrays, path)
    if {"samples", "valid"} <= arrays.keys():
        options.check_type(RawChains)
        return backbones_from_arrays(arrays, path)
    candidates = [name for name in arrays if name not in (*LABELS, *OTHERS)]
    name = next((name for name in SAMPLES if name in arrays), candidates[0] if len(candidates) == 1 else None)
    if name is None:
        array_names = ", ".join(arrays) or "nothing"
        raise InputError("an array named samples", array_names, "Rename the array of the examples", file=path)
    samples, where = arrays[name], f"{path} ({name})"
    if samples.dtype.kind == "U" and samples.ndim == 1 and len(samples):
        labels, classes = _labels(arrays, len(samples), path)
        return RawTexts(
            samples.astype(object), labels, classes, documents=True, tokens=_tokens(arrays, len(samples), path)
        )
    if samples.dtype.kind == "U" and samples.ndim == 2 and len(samples) and "columns" in arrays:
        options.check_type(RawTable)
        columns = _words(arrays, "columns", path)
        if len(columns) != samples.shape[1]:
            raise InputError(f"{samples.shape[1]} column names in columns", len(columns), file=path)
        return RawTable(samples.astype(object), columns=columns)
    as_arrays = options.raw_type is RawArrays or (issubclass(RawArrays, options.raw_type) and _are_channels(samples))
    if samples.dtype.kind not in "biuf" or not (samples.ndim in (2, 3, 4) or (as_arrays and samples.ndim > 1)):
        raise InputError(
            "numeric points [n, d], images [n, h, w] or [n, h, w, c], or arrays [n, ..., channels]",
            f"{list(samples.shape)} of {samples.dtype}",
            place=where,
        )
    if 0 in samples.shape:
        raise InputError("at least one example and value", f"an empty array {list(samples.shape)}", place=where)
    labels, classes = _labels(arrays, len(samples), path)
    if as_arrays:
        columns = _words(arrays, "columns", path)
        if columns and len(columns) != samples.shape[-1]:
            raise InputError(f"{samples.shape[-1]} names of channels in columns", len(columns), file=path)
        return RawArrays(_masked(samples.astype(np.float64), arrays, where), labels, classes, columns=columns)
    if samples.ndim == 2:
        columns = _words(arrays, "columns", path)
        if columns and len(columns) != samples.shape[1]:
            raise InputError(f"{samples.shape[1]} column names in columns", len(columns), file=path)
        columns = () if all_numbers(columns) else columns
        with np.errstate(all="ignore"):
            values = check_finite(samples.astype(np.float64), where, columns)
            return RawPoints(values, labels, classes, columns=columns)
    if samples.ndim == 3 and samples.shape[2] in (3, 4) and samples.shape[1] > 8 and not options.is_unlimited:
        raise InputError(
            f"{list(samples.shape)} looks like a single colour image",
            remedy="Reshape the array to [1, h, w, c]",
            place=where,
        )
    values, notes = _pictures(samples, where)
    levels = _levels(arrays, values, path)
    values, resize_notes = resize_arrays(values, options.size, options.limit)
    return RawImages(values, labels, classes, levels=levels, notes=(*notes, *resize_notes))


def _are_channels(samples: np.ndarray) -> bool:
    """Return True for arrays that cannot be images: with more axes, or with numbers that are not levels of gray.

    Numbers from 0 to 1 with 1, 3 or 4 channels are images that lack scaling.
    """
    if samples.dtype.kind not in "biuf" or samples.ndim < 3 or 0 in samples.shape:
        return False
    if samples.ndim > 4:
        return True
    if samples.dtype.kind != "f":
        return False
    present = samples[~np.isnan(samples)]
    is_scaled = samples.ndim == 4 and samples.shape[3] in (1, 3, 4) and ((present >= 0) & (present <= 1)).all()
    are_levels = len(present) == samples.size and ((present >= 0) & (present <= 255) & (present % 1 == 0)).all()
    return not (is_scaled or are_levels)


def _masked(values: np.ndarray, arrays: dict[str, np.ndarray], where: str) -> np.ndarray:
    """Return the arrays with NaN where an array `mask` is False.

    InputError if a value is infinite, or NaN where the mask is True.
    """
    observed = arrays.get("mask")
    if observed is not None:
        if observed.shape != values.shape or observed.dtype.kind not in "biu":
            expected = f"a mask of shape {list(values.shape)}, True for observed entries"
            raise InputError(expected, f"{list(observed.shape)} of {observed.dtype}", place=where)
        observed = observed.astype(bool)
    bad = np.isinf(values) if observed is None else observed & ~np.isfinite(values)
    bad_rows = np.flatnonzero(bad.reshape(len(values), -1).any(1))
    if len(bad_rows):
        kind = "infinite values" if observed is None else "values that are not finite where the mask is True"
        raise InputError(
            f"{len(bad_rows)} of {len(values)} arrays have {kind}, the first at index {bad_rows[0]}",
            remedy="Mark missing entries by NaN, and by False in the mask if there is one",
            place=where,
        )
    return values if observed is None else np.where(observed, values, np.nan)


def _tokens(arrays: dict[str, np.ndarray], n: int, path: str) -> np.ndarray | None:
    tokens = arrays.get("tokens")
    if tokens is None:
        return None
    if tokens.dtype.kind not in "iu" or tokens.ndim != 2 or len(tokens) != n:
        raise InputError(f"integer tokens [{n}, l]", f"{list(tokens.shape)} {tokens.dtype}", file=path)
    return tokens.astype(np.int64)


def _words(arrays: dict[str, np.ndarray], name: str, path: str) -> tuple[str, ...]:
    """Return the strings in the array `name`, which must be distinct; empty if there is no such array."""
    if name not in arrays:
        return ()
    words = tuple(str(word) for word in arrays[name].reshape(-1))
    if arrays[name].dtype.kind not in "Uiu" or len(set(words)) < len(words):
        raise InputError(f"distinct strings in {name}", ", ".join(words[:5]), file=path)
    return words


def _labels(arrays: dict[str, np.ndarray], n: int, path: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    name = next((name for name in LABELS if name in arrays), None)
    if name is None:
        return None, ()
    labels, classes = arrays[name], _words(arrays, "classes", path)
    if labels.shape != (n,):
        raise InputError(f"{n} {name}, one per example", f"an array {list(labels.shape)}", file=path)
    if labels.dtype.kind == "U":
        return encode_labels(labels.tolist(), f"{path} ({name})")
    with np.errstate(all="ignore"):
        integers = labels.astype(np.int64) if labels.dtype.kind in "biuf" else labels
    if labels.dtype.kind not in "biuf" or (integers != labels).any():
        raise InputError("strings or integers", labels.dtype, file=path, argument=name)
    if not classes:
        return encode_labels([str(label) for label in integers.tolist()], f"{path} ({name})")
    if integers.min() < 0 or integers.max() >= len(classes):
        raise InputError(
            f"{name} from 0 to {len(classes) - 1}, an index into classes",
            f"{integers.min()} to {integers.max()}",
            file=path,
        )
    return integers, classes


def _pictures(samples: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert an array of images to uint8 [n, h, w, c], c = 1 or 3."""
    samples = samples[..., None] if samples.ndim == 3 else samples
    if samples.shape[3] not in (1, 3, 4):
        hint = (
            "Move the channels to the end, x.movedim(1, -1) or numpy.moveaxis(x, 1, -1)"
            if samples.shape[1] in (1, 3, 4)
            else "Convert the images to gray or RGB"
        )
        raise InputError("1, 3 or 4 channels on the last axis", list(samples.shape), hint, place=where)
    if samples.dtype != np.uint8:
        with np.errstate(all="ignore"):
            integers = samples.astype(np.uint8)
        if not (integers == samples).all():
            raise InputError(
                "integers from 0 to 255",
                f"{samples.dtype} from {samples.min():g} to {samples.max():g}",
                "Scale and round the values first",
                place=where,
            )
        samples = integers
    if samples.shape[3] < 4:
        return samples, ()
    alpha = samples[..., 3:].astype(np.float32) / 255
    colour = np.round(samples[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return colour, (f"{len(samples)} transparent images were composited on white",)


def _levels(arrays: dict[str, np.ndarray], values: np.ndarray, path: str) -> int | None:
    if "levels" not in arrays:
        return None
    value = arrays["levels"]
    if value.size != 1 or value.dtype.kind not in "iu" or not max(1, values.max()) <= value.item() <= 255:
        raise InputError(
            expected=f"an array levels with the value of white, one number from {max(1, values.max())} to 255",
            file=path,
        )
    return value.item()
