"""Read samples and conditions in the modality of a model; convert between modalities."""

import pathlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.output_shards import MANIFEST, open_shards
from feller.core.pytree import Cond, State, concatenate
from feller.data.crystals.modality import Crystals
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_raw, load_texts
from feller.data.loading.in_memory import DataSource
from feller.data.loading.raw import RawTexts, error_context
from feller.data.loading.read_options import ReadOptions
from feller.data.loading.user_modality import read_with
from feller.data.modality import Dataset, Modality
from feller.data.molecules.modality import Molecules
from feller.data.points.euclidean_points import Points


def samples_in_memory(samples: DataSource, modality: Modality) -> tuple[State, Cond]:
    """Return values and conditions of samples as `feller.sample` returns them, or other data in memory."""
    data = samples if isinstance(samples, Dataset) else read(samples, like=modality)
    return data.values, data.given


def read_samples(path: pathlib.Path, modality: Modality) -> tuple[State, Cond]:
    """Read values and conditions that a modality wrote, as they are: a file, a folder, or all shards of one.

    Raises:
        InputError: If they are damaged or of another kind.
    """
    if (path / MANIFEST).is_file():
        found = open_shards(path)
        found.verify()
        values, given = zip(*(read_samples(one, modality) for one in found), strict=True)
        return concatenate(*values), concatenate(*given)
    if modality.has_own_loader:
        data = read_with(modality, str(path))
        return data.values, data.given
    with error_context(path):
        if modality.raw_type is RawTexts:
            return modality.values_from_raw(load_texts(path))
        return modality.values_from_raw(
            load_raw(path, ReadOptions(limit=None, select_columns=modality.select_columns, raw_type=modality.raw_type))
        )


def condition_leaf(modality: Modality, leaf: str, text: str) -> tuple[Tensor | dict[str, Tensor], dict[str, int]]:
    """Return a leaf of a state, [1, ...], from what a person writes or from the file that they name.

    Returns:
        The leaf, or several by their names, and the conditions that follow from it.

    Raises:
        UsageError: If the text does not say it, or there is no such file.
    """
    if leaf not in modality.file_conditions:
        return modality.parse_condition(leaf, text)
    path = pathlib.Path(text)
    if not path.is_file():
        raise UsageError(f"a file with {modality.file_conditions[leaf]}", "none", argument=leaf, file=path)
    with error_context(path):
        return modality.load_condition(leaf, load_raw(path, ReadOptions(limit=None, raw_type=modality.raw_type)))


ValueConverter = Callable[[State], State]
"""Values of their modality, perhaps not rounded -> states of ours."""


def value_converter(theirs: Modality, ours: Modality) -> ValueConverter:
    """Return what turns values of one modality into states of another, with a gradient where values have one.

    Raises:
        UsageError: If the other cannot see such values; says why.
    """
    if (labelled := theirs.view(LabelledImages)) is not None:
        inner = value_converter(labelled.images, ours)
        return lambda values: inner(values["image"])
    for kind in (Molecules, Crystals):
        if (those := theirs.view(kind)) and (these := ours.view(kind)):
            return _of_elements(those, these)
    if (columns := theirs.view(Points)) and (our_columns := ours.view(Points)):
        return _of_columns(columns, our_columns)
    if (shown := theirs.view(Images)) and (our_images := ours.view(Images)) and shown.shape == our_images.shape:
        ratio, code, levels = our_images.levels / shown.levels, our_images.code, our_images.levels
        return lambda values: code.encode(values.float() * ratio, levels)
    if theirs.comparison_key == ours.comparison_key:
        return ours.encode
    raise UsageError(f"it knows {ours.display_name}{_size(ours)}, and these are {theirs.display_name}{_size(theirs)}")


def _of_elements(theirs: Any, ours: Any) -> ValueConverter:
    unknown = [symbol for symbol in theirs.elements if symbol not in ours.elements]
    if unknown:
        raise UsageError(f"it has not seen {', '.join(unknown)}, which these {theirs.display_name} may have")
    places = torch.tensor([ours.elements.index(symbol) for symbol in theirs.elements])

    def see(values: State) -> State:
        element: Tensor = values["element"]
        return ours.encode({**values, "element": places.to(element.device)[element]})

    return see


def _of_columns(theirs: Points, ours: Points) -> ValueConverter:
    missing = [name for name in ours.columns if name not in theirs.columns]
    if missing:
        raise UsageError(f"it needs the column {missing[0]!r}, and these have {', '.join(theirs.columns)}")
    places = [theirs.columns.index(name) for name in ours.columns]
    return lambda values: ours.encode(values[:, places])


def _size(modality: Modality) -> str:
    images = modality.view(Images)
    return "" if images is None else f" of {images.width} x {images.height} x {images.channels}"
