"""Conditions that are not in the data: shrunk images, vectors in a file, and texts encoded by a transformers model."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from feller.core.errors import InputError, UsageError
from feller.data.conditions.cells import cells_of
from feller.data.conditions.condition import Condition
from feller.data.conditions.encoded_texts import fit_encoded_text
from feller.data.conditions.image_condition import ImageCondition
from feller.data.files.numpy_files import load_arrays
from feller.data.images.image_resizing import resize_arrays
from feller.data.images.modality import Images
from feller.data.loading.raw import RawExamples, RawImages
from feller.data.modality import Modality

MAX_NOISE = 0.5
"""Maximum standard deviation of the noise added in training to a shrunk image, whose pixels are from -1 to 1."""


@dataclass(frozen=True)
class RequestedCondition:
    """Condition that a user requested: a name, and the source of its values if they are not in the data."""

    name: str
    source: str = ""

    @property
    def is_shrunk(self) -> bool:
        """True if the values are the images themselves, shrunk to a number of pixels."""
        return self.source.isdecimal()

    @property
    def is_array(self) -> bool:
        """True if the values are the rows of an .npy file."""
        return self.source.lower().endswith(".npy")

    @property
    def is_encoder(self) -> bool:
        """True if the values are texts, which the model in a folder encodes."""
        return bool(self.source) and not self.is_shrunk and not self.is_array


def parse_conditions(texts: Sequence[str]) -> tuple[RequestedCondition, ...]:
    """Parse conditions given as NAME, NAME=PIXELS, NAME=FILE.npy or NAME=FOLDER."""
    return tuple(_parse(text) for text in texts)


def _parse(text: str) -> RequestedCondition:
    name, _, source = text.partition("=")
    request = RequestedCondition(name, source)
    is_known = request.is_shrunk or request.is_array or "/" in source or (source and pathlib.Path(source).is_dir())
    return request if is_known else RequestedCondition(text)  # the name of a column may have an equals sign


def names_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of conditions given as NAME or NAME=SOURCE."""
    return tuple(request.name for request in parse_conditions(texts))


def with_sources(
    raw: RawExamples, modality: Modality, requests: Sequence[RequestedCondition]
) -> tuple[RawExamples, dict[str, Condition]]:
    """Return raw examples with the conditions that are not in the data, and the types of these conditions, by name.

    Raises:
        InputError: If a file has another number of rows than the data, or a folder holds no model of texts.
        UsageError: If the examples cannot be shrunk.
    """
    columns: dict[str, np.ndarray] = {}
    kinds: dict[str, Condition] = {}
    for request in requests:
        if request.is_array:
            columns[request.name] = _rows(request, len(raw.values))
        elif request.is_shrunk:
            kinds[request.name], columns[request.name] = _shrunk(request, raw, modality)
        elif request.is_encoder:
            cells, folder = raw.condition_column(request.name), str(pathlib.Path(request.source).resolve())
            kinds[request.name] = fit_encoded_text(request.name, cells_of(cells), folder)
    return replace(raw, condition_columns={**raw.condition_columns, **columns}), kinds


def columns_of(modality: Modality) -> tuple[str, ...]:
    """Return the names of the conditions of a fitted modality that are read from data, not derived from the images."""
    kinds = modality.selected_conditions.items()
    return tuple(name for name, kind in kinds if not (isinstance(kind, ImageCondition) and kind.noise))


def shrunk_again(raw: RawExamples, modality: Modality) -> RawExamples:
    """Return raw images with those conditions of a fitted modality that are the images themselves, shrunk."""
    kinds = modality.selected_conditions.items() if isinstance(raw, RawImages) else ()
    columns = {
        name: resize_arrays(raw.values, max(kind.height, kind.width), None)[0]
        for name, kind in kinds
        if isinstance(kind, ImageCondition) and kind.noise and name not in raw.condition_candidates
    }
    return replace(raw, condition_columns={**raw.condition_columns, **columns}) if columns else raw


def _rows(request: RequestedCondition, n: int) -> np.ndarray:
    array = next(iter(load_arrays(pathlib.Path(request.source)).values()))
    if not 1 <= array.ndim <= 4 or len(array) != n:
        expected = f"one row for each of {n} examples, in their order"
        raise InputError(expected, f"an array {list(array.shape)}", argument=request.name, file=request.source)
    return array


def _shrunk(request: RequestedCondition, raw: RawExamples, modality: Modality) -> tuple[ImageCondition, np.ndarray]:
    images, pixels = modality.view(Images), int(request.source)
    if images is None or not isinstance(raw, RawImages):
        raise UsageError("images, which can be shrunk", raw.description, argument=request.name)
    side = max(images.height, images.width)
    if not 1 <= pixels < side:
        raise UsageError(f"1 to {side - 1} pixels, fewer than the images have", pixels, argument=request.name)
    values, _ = resize_arrays(raw.values, pixels, None)
    height, width, channels = values.shape[1:]
    return ImageCondition(channels, height, width, high=float(images.levels), noise=MAX_NOISE), values
