"""Readers of generated samples and of conditions in a model's modality, and conversion between modalities."""

import pathlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError, error_context
from feller.core.output_shards import MANIFEST, open_shards
from feller.core.pytree import Cond, State, concatenate
from feller.data.crystals.modality import Crystals
from feller.data.images.labelled_images import LabelledImages
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.file_formats import load_raw, load_texts
from feller.data.loading.in_memory import DataSource
from feller.data.loading.linked_files import load_tables
from feller.data.loading.raw import RawExamples, RawTables, RawTexts
from feller.data.loading.read_options import ReadOptions
from feller.data.loading.user_modality import read_with
from feller.data.modality import Dataset, Modality
from feller.data.molecules.modality import Molecules
from feller.data.points.euclidean_points import Points


def samples_in_memory(samples: DataSource, modality: Modality) -> tuple[State, Cond]:
    """Return (values in data units, conditions) of in-memory data, such as the samples that `feller.sample` returns.

    A `Dataset` is used as it is; other data are read in the given modality.
    """
    data = samples if isinstance(samples, Dataset) else read(samples, like=modality)
    return data.values, data.given


def read_samples(path: pathlib.Path, modality: Modality) -> tuple[State, Cond]:
    """Read generated samples, and return (values in data units, conditions).

    `path` is a file, a folder of samples, or a folder of shards, of which all are read. Unlike training data, samples
    are neither resized nor filtered by size.

    Raises:
        InputError: If the samples are damaged or of another type of data.
    """
    if (path / MANIFEST).is_file():
        shards = open_shards(path)
        shards.verify()
        values, given = zip(*(read_samples(shard, modality) for shard in shards), strict=True)
        return concatenate(*values), concatenate(*given)
    if modality.has_own_loader:
        data = read_with(modality, str(path))
        return data.values, data.given
    options = ReadOptions(
        limit=None,
        select_columns=modality.select_columns,
        condition=(*modality.selected_conditions,),
        raw_type=modality.raw_type,
    )
    with error_context(path):
        loaders: dict[type[RawExamples], Callable[[pathlib.Path], RawExamples]] = {
            RawTexts: load_texts,
            RawTables: load_tables,
        }
        loader = loaders.get(modality.raw_type)
        raw = load_raw(path, options) if loader is None else loader(path)
        values, given = modality.values_from_raw(raw)
        return values, {**given, **modality.conditions_from_raw(raw)}


def condition_leaf(modality: Modality, leaf: str, text: str) -> tuple[Tensor | dict[str, Tensor], dict[str, int]]:
    """Return the value of a component (leaf) of the state that is held fixed during sampling.

    Args:
        modality: Modality of the model.
        leaf: Name of the component.
        text: Value as text, or name of a file that holds it.

    Returns:
        The component, [1, ...], or a dict of components, and the class ids of the conditions that follow from it.

    Raises:
        UsageError: If the text is invalid, or `text` names a file that does not exist.
    """
    if leaf not in modality.file_conditions:
        return modality.parse_condition(leaf, text)
    path = pathlib.Path(text)
    if not path.is_file():
        raise UsageError(f"a file with {modality.file_conditions[leaf]}", "none", argument=leaf, file=path)
    with error_context(path):
        return modality.load_condition(leaf, load_raw(path, ReadOptions(limit=None, raw_type=modality.raw_type)))


ValueConverter = Callable[[State], State]
"""Function from values of another modality, possibly not rounded, to states of the target modality."""


def value_converter(theirs: Modality, ours: Modality) -> ValueConverter:
    """Return a function that converts values of the modality `theirs` to states of `ours`.

    With it, a regressor can evaluate samples of another model. The function is differentiable in real values.

    Raises:
        UsageError: If the modalities are not compatible.
    """
    if (labelled := theirs.view(LabelledImages)) is not None:
        convert_image = value_converter(labelled.images, ours)
        return lambda values: convert_image(values["image"])
    for modality_class in (Molecules, Crystals):
        if (their_view := theirs.view(modality_class)) and (our_view := ours.view(modality_class)):
            return _of_elements(their_view, our_view)
    if (their_points := theirs.view(Points)) and (our_points := ours.view(Points)):
        return _of_columns(their_points, our_points)
    if (
        (their_images := theirs.view(Images))
        and (our_images := ours.view(Images))
        and their_images.shape == our_images.shape
    ):
        ratio, code, levels = our_images.levels / their_images.levels, our_images.code, our_images.levels
        return lambda values: code.encode(values.float() * ratio, levels)
    if theirs.comparison_key == ours.comparison_key:
        return ours.encode
    raise UsageError(
        f"the model needs {ours.display_name}{_size(ours)}, but the data are {theirs.display_name}{_size(theirs)}"
    )


def _of_elements(theirs: Any, ours: Any) -> ValueConverter:
    unknown = [symbol for symbol in theirs.elements if symbol not in ours.elements]
    if unknown:
        raise UsageError(
            f"the model was trained without the elements {', '.join(unknown)}, which {theirs.display_name} may have"
        )
    indices = torch.tensor([ours.elements.index(symbol) for symbol in theirs.elements])

    def convert(values: State) -> State:
        element: Tensor = values["element"]
        return ours.encode({**values, "element": indices.to(element.device)[element]})

    return convert


def _of_columns(theirs: Points, ours: Points) -> ValueConverter:
    missing = [name for name in ours.columns if name not in theirs.columns]
    if missing:
        raise UsageError(f"the model needs the column {missing[0]!r}, but the data have {', '.join(theirs.columns)}")
    indices = [theirs.columns.index(name) for name in ours.columns]
    return lambda values: ours.encode(values[:, indices])


def _size(modality: Modality) -> str:
    images = modality.view(Images)
    return "" if images is None else f" of {images.width} x {images.height} x {images.channels}"
