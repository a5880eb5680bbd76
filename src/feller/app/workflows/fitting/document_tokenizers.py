"""Tokenizers of the images of documents: that of another run, or a new one."""

import pathlib
from collections.abc import Callable
from dataclasses import replace

from feller.core.errors import UsageError
from feller.core.run_folder import Run, open_run
from feller.data.documents.image_tokenizers import ImageTokenizer
from feller.data.documents.modality import Documents, all_pictures
from feller.data.documents.tiles import palette_of, tiles_of
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.models.model import load_model
from feller.models.recipes.interleaved import MAX_TILES, learned_codes
from feller.models.recipes.registry import check_size
from feller.networks.codebook.conv_tokenizer import ConvTokenizer
from feller.networks.codebook.learned_image_tokenizer import load_image_tokenizer

MAX_COLOURS = 256
"""Maximum number of colours in a palette."""


def with_tokenizer(data: Dataset, tokenizer: str, size: str) -> Dataset:
    """Return documents whose images use the given tokenizer.

    Args:
        data: Documents.
        tokenizer: Folder of a tokenizer run; or `palette`, `tiles` or `learned` (an untrained tokenizer, to be trained
            later).
        size: Network size of an untrained tokenizer.

    Raises:
        InputError: If the run is damaged, or the images have too many colours.
        UsageError: If the data are not documents, their recipe does not have the size, or the run is not a tokenizer.
    """
    check_size("interleaved", size)
    documents = data.modality.view(Documents)
    if documents is None:
        raise UsageError(
            f"applies to documents only; these data are {data.modality.display_name}",
            remedy="Leave it out",
            argument="tokenizer",
        )
    if documents.image_tokenizer is not None:
        raise UsageError(
            "the documents use the tokenizer of the model in --start-from", remedy="Leave it out", argument="tokenizer"
        )
    make_tokenizer = TOKENIZERS.get(tokenizer)
    if make_tokenizer is None and not pathlib.Path(tokenizer).exists():
        raise UsageError.unknown_name("tokenizer", tokenizer, TOKENIZERS, alternatives=", or the run of a tokenizer")
    image_tokenizer = (
        _tokenizer_of_run(tokenizer, documents) if make_tokenizer is None else make_tokenizer(data, documents, size)
    )
    return data.with_modality(documents.with_image_tokenizer(image_tokenizer, data.values["rows"]))


def _tiles(data: Dataset, documents: Documents, size: str) -> ImageTokenizer:
    """Return a tokenizer whose codebook is the most common tiles, of the size that a learned tokenizer would have."""
    return tiles_of(all_pictures(data.values), learned_codes(documents, size).config.factor, MAX_TILES)


TOKENIZERS: dict[str, Callable[[Dataset, Documents, str], ImageTokenizer]] = {
    "palette": lambda data, kind, size: palette_of(all_pictures(data.values), MAX_COLOURS),
    "tiles": _tiles,
    "learned": lambda data, kind, size: learned_codes(kind, size),
}
"""Tokenizer name -> function that makes the tokenizer from (documents, modality of the documents, network size)."""


def is_pretrained_tokenizer(tokenizer: str | None) -> bool:
    """Return True if the tokenizer is a run folder, whose weights are already trained."""
    return tokenizer is not None and tokenizer not in TOKENIZERS


def restore_tokenizer(data: Dataset, tokenizer: str, run: Run) -> Dataset:
    """Return documents whose images use the tokenizer of another run, to resume a run without its own copy of it.

    The run `run` lacks a copy if training stopped before the copy was written. If it has one, or `tokenizer` is not a
    run folder, the data are returned unchanged.

    Args:
        data: Documents.
        tokenizer: Folder of the tokenizer run, or the name of a tokenizer.
        run: Run to resume.

    Raises:
        InputError: If the run `tokenizer` is damaged.
        UsageError: If the run `tokenizer` is not a tokenizer that matches the data.
    """
    documents = data.modality.view(Documents)
    if not is_pretrained_tokenizer(tokenizer) or documents is None or run.aux_weights("tokenizer").is_file():
        return data
    return data.with_modality(replace(documents, image_tokenizer=_tokenizer_of_run(tokenizer, documents)))


def _tokenizer_of_run(path: str, documents: Documents) -> ImageTokenizer:
    """Load the image tokenizer of a run."""
    model = load_model(open_run(path))
    architecture, images = model.spec.architecture, model.spec.modality.view(Images)
    if not isinstance(architecture, ConvTokenizer) or images is None:
        raise UsageError(
            "is not a tokenizer", remedy="Fit a tokenizer with: feller fit IMAGES --recipe image-tokenizer", file=path
        )
    if images.shape != documents.shape:
        ours, theirs = ("{2}x{1} with {0} channels".format(*shape) for shape in (documents.shape, images.shape))
        raise UsageError(
            f"{path} encodes images of {theirs}, but these documents have images of {ours}",
            remedy="Resize the images of the documents with --longest",
        )
    return load_image_tokenizer(architecture, images.shape, model.network.state_dict())
