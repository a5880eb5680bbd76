"""Documents whose pictures a tokeniser writes that was there before."""

import pathlib
from collections.abc import Callable
from dataclasses import replace

from feller.core.errors import UsageError
from feller.core.run_folder import Run, open_run
from feller.core.serialization import nearest
from feller.data.documents.documents_modality import Documents, all_pictures
from feller.data.documents.image_codes import PictureCodes
from feller.data.documents.palette import palette_of
from feller.data.documents.tiles import tiles_of
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.models.model import load_model
from feller.models.recipes.interleaved import MOST_TILES, learned_codes
from feller.networks.codebook.image_codes import learned
from feller.networks.codebook.image_tokenizer import Tokenizer

MOST_COLOURS = 256
"""Of a palette."""


def written_by(data: Dataset, tokenizer: str, size: str) -> Dataset:
    """Return documents with a tokeniser: that of a run, colours or tiles of their pictures, or one to train.

    Args:
        data: The documents.
        tokenizer: Run folder, or `palette`, `tiles` or `learned`.
        size: Of what is to train.

    Raises:
        InputError: If the run is damaged, or the pictures have too many colours.
        UsageError: If the data are no documents, or the run is of something else.
    """
    kind = data.modality
    if not isinstance(kind, Documents):
        raise UsageError(f"--tokenizer is of documents, and these data are {kind.called}; leave it out")
    if kind.codes is not None:
        raise UsageError("documents keep the tokeniser of the model that is trained on; leave --tokenizer out")
    made = NAMED.get(tokenizer)
    if made is None and not pathlib.Path(tokenizer).exists():
        near = nearest(tokenizer, list(NAMED))
        raise UsageError(f"--tokenizer takes {', '.join(NAMED)} or the run of a tokeniser, got {tokenizer!r}: {near}")
    codes = _of_run(tokenizer, kind) if made is None else made(data, kind, size)
    return data.seen_as(kind.tokenised(codes, data.values["rows"]))


def _palette(data: Dataset, kind: Documents, size: str) -> PictureCodes:
    return palette_of(all_pictures(data.values), MOST_COLOURS)


def _tiles(data: Dataset, kind: Documents, size: str) -> PictureCodes:
    """Return the commonest tiles, as large as the cells of a learned tokeniser."""
    return tiles_of(all_pictures(data.values), learned_codes(kind, size).settings.factor, MOST_TILES)


def _learned(data: Dataset, kind: Documents, size: str) -> PictureCodes:
    return learned_codes(kind, size)


NAMED: dict[str, Callable[[Dataset, Documents, str], PictureCodes]] = {
    "palette": _palette,
    "tiles": _tiles,
    "learned": _learned,
}
"""Words that stand for a tokeniser, and what makes it of documents, their modality and the size of what is to learn."""


def from_a_run(tokenizer: str | None) -> bool:
    """Tell whether a tokeniser that was asked for has learned before."""
    return tokenizer is not None and tokenizer not in NAMED


def taken_again(data: Dataset, tokenizer: str, run: Run) -> Dataset:
    """Return documents of a run that was stopped before it had a tokeniser of its own, with that of the other run.

    Raises:
        InputError: If the other run is damaged.
        UsageError: If it is of something else by now.
    """
    kind = data.modality
    if not from_a_run(tokenizer) or not isinstance(kind, Documents) or run.part("tokenizer").is_file():
        return data
    return data.seen_as(replace(kind, codes=_of_run(tokenizer, kind)))


def _of_run(path: str, kind: Documents) -> PictureCodes:
    """Return the tokeniser of a run."""
    model = load_model(open_run(path))
    settings, pictures = model.description.architecture, model.description.modality
    if not isinstance(settings, Tokenizer) or not isinstance(pictures, Images):
        raise UsageError(f"{path} is no tokeniser; fit one with: feller fit PICTURES --recipe image-tokenizer")
    if pictures.shape != kind.shape:
        ours, theirs = ("{2}x{1} with {0} channels".format(*shape) for shape in (kind.shape, pictures.shape))
        raise UsageError(
            f"{path} writes pictures of {theirs}, these documents have {ours}; bring them to it by --longest"
        )
    return learned(settings, pictures.shape, model.network.state_dict())
