"""Documents whose pictures a tokeniser writes that was there before."""

from dataclasses import replace

from feller.data.documents.codes import PictureCodes
from feller.data.documents.modality import Documents, all_pictures
from feller.data.documents.palette import palette_of
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.errors import UsageError
from feller.model import load_model
from feller.networks.codebook.picture_codes import learned
from feller.networks.codebook.tokenizer import Tokenizer
from feller.run import Run, open_run

PALETTE = "palette"
"""The word that stands for a list of colours."""
MOST_COLOURS = 256
"""Of a palette."""


def written_by(data: Dataset, tokenizer: str) -> Dataset:
    """Return documents with a tokeniser: that of a run, or a palette of the colours of their pictures.

    Raises:
        InputError: If the run is damaged, or the pictures have too many colours.
        UsageError: If the data are no documents, or the run is of something else.
    """
    kind = data.modality
    if not isinstance(kind, Documents):
        raise UsageError(f"--tokenizer is of documents, and these data are {kind.called}; leave it out")
    if kind.codes is not None:
        raise UsageError("documents keep the tokeniser of the model that is trained on; leave --tokenizer out")
    palette = tokenizer == PALETTE
    codes = palette_of(all_pictures(data.values), MOST_COLOURS) if palette else _of_run(tokenizer, kind)
    return data.seen_as(kind.tokenised(codes, data.values["rows"]))


def taken_again(data: Dataset, tokenizer: str, run: Run) -> Dataset:
    """Return documents of a run that was stopped before it had a tokeniser of its own, with that of the other run.

    Raises:
        InputError: If the other run is damaged.
        UsageError: If it is of something else by now.
    """
    kind = data.modality
    if not isinstance(kind, Documents) or kind.tokenizer.module is None or run.part("tokenizer").is_file():
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
