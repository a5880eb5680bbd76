"""Datastore of documents for retrieval: token rows and embedding vectors."""

import pathlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError
from feller.data.documents.document_encoder import DocumentEncoder
from feller.data.documents.token_layout import from_tokens, to_tokens
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.files import numpy_files
from feller.networks.sequence.ngram_vectors import mix_hash
from feller.sampling.autoregressive.masked_spans import read_document

_FORM = (("rows", "i", 2), ("vectors", "f", 2), ("both", "b", 1), ("symbols", "i", 1), ("makers", "U", 1))
"""Arrays of a datastore file: name, kind of dtype and number of axes."""
ANEW = "Build the datastore again"


@dataclass(frozen=True)
class DatastoreOrigin:
    """Identifiers of the models that encoded a datastore; its tokens and vectors are valid only with these models."""

    codes: str
    """Identifier of the image tokenizer."""
    text: str
    """Identifier of the text vocabulary."""
    vectors: str
    """Identifier of the bi-encoder (text and image encoder) that computed the vectors."""


@dataclass(frozen=True, eq=False)
class Datastore:
    """Documents with embedding vectors for retrieval."""

    vocabulary: DocumentVocabulary
    rows: Int64[Tensor, "n l"]
    """Tokens of each document, padded and with answer marks, as in the training data."""
    vectors: Float[Tensor, "n d"]
    """Unit-norm embeddings of whole documents."""
    has_both: Bool[Tensor, " n"]
    """True for documents with both text and image."""

    def __len__(self) -> int:
        return len(self.rows)


def create_datastore(rows: Int64[Tensor, "n l"], encoder: DocumentEncoder, vocabulary: DocumentVocabulary) -> Datastore:
    """Build a datastore of documents.

    Raises:
        InputError: If there are no documents.
    """
    if not len(rows):
        raise InputError("a datastore of at least one document", "none", "Add documents, or omit the datastore")
    encoded = encoder(rows)
    return Datastore(vocabulary, rows, encoded.whole(), encoded.has_text & encoded.has_picture)


def save_datastore(datastore: Datastore, origin: DatastoreOrigin, path: pathlib.Path) -> None:
    """Write a datastore to an .npz file."""
    numpy_files.write_arrays(
        {
            "rows": datastore.rows.cpu().numpy(),
            "vectors": datastore.vectors.detach().cpu().numpy(),
            "both": datastore.has_both.cpu().numpy(),
            "symbols": np.array(list(asdict(datastore.vocabulary).values())),
            "makers": np.array(list(asdict(origin).values())),
        },
        path,
    )


def load_datastore(path: pathlib.Path, vocabulary: DocumentVocabulary, origin: DatastoreOrigin) -> Datastore:
    """Read a datastore, and check that the models in `origin` encoded it.

    Raises:
        InputError: If the file is damaged or empty, or was encoded by other models.
    """
    arrays = numpy_files.load_arrays(path)
    try:
        return _memory_of(arrays, vocabulary, origin, path)
    except InputError as error:
        raise error.with_context(file=path) from error


def _memory_of(
    found: Mapping[str, np.ndarray], symbols: DocumentVocabulary, makers: DatastoreOrigin, path: pathlib.Path
) -> Datastore:
    forms = {name: (found[name].dtype.kind, found[name].ndim) for name, *_ in _FORM if name in found}
    wrong = [name for name, kind, axes in _FORM if forms.get(name) != (kind, axes)]
    if wrong or not len(found["symbols"]) == len(found["makers"]) == 3 or found["symbols"].min() < 1:
        raise InputError(
            "a datastore of documents", f"invalid {', '.join(wrong) or 'arrays `symbols` or `makers`'}", ANEW
        )
    own = DatastoreOrigin(*map(str, found["makers"]))
    for what, file, ours, theirs in (
        ("image tokenizer", "tokenizer.safetensors, or model.json", makers.codes, own.codes),
        ("vocabulary", "model.json", makers.text, own.text),
        ("document encoder", "vectors.safetensors", makers.vectors, own.vectors),
        ("vocabulary size", "model.json", symbols, DocumentVocabulary(*map(int, found["symbols"]))),
    ):
        if ours != theirs:
            raise InputError(
                f"belongs to another run: its {what} differs from that of this run ({file})",
                remedy=f"{ANEW}: feller data memory DOCUMENTS --run RUN --out {path}",
            )
    # Convert with NumPy first, because torch supports neither foreign byte orders nor long doubles.
    rows, vectors, both = (
        torch.from_numpy(found[name].astype(dtype))
        for name, dtype in (("rows", np.int64), ("vectors", np.float32), ("both", np.bool_))
    )
    if not len(rows) == len(vectors) == len(both):
        raise InputError(
            "arrays `rows`, `vectors` and `both` of equal length", f"{len(rows)}, {len(vectors)} and {len(both)}", ANEW
        )
    if not len(rows):
        raise InputError("a datastore of at least one document", "none", ANEW)
    _check(rows, symbols)
    if not vectors.isfinite().all():
        raise InputError("finite vectors", "infinity or NaN", ANEW)
    return Datastore(symbols, rows, vectors, both)


def _check(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> None:
    if (rows < 0).any() or (rows >= vocabulary.num_data_tokens).any() or not rows.shape[1]:
        raise InputError("rows of valid tokens", "invalid ids, or empty rows", ANEW)
    try:
        whole = to_tokens(*from_tokens(rows, vocabulary), vocabulary)
        for row in whole.numpy():
            read_document(row, vocabulary)
    except InputError as error:
        raise InputError(error, remedy=ANEW) from error
    width = max(whole.shape[1], rows.shape[1])
    ours, theirs = (F.pad(some, (0, width - some.shape[1]), value=vocabulary.pad) for some in (whole, rows))
    last = theirs.gather(1, (theirs != vocabulary.pad).sum(1, keepdim=True) - 1)[:, 0]
    wrong = (ours != theirs).any(1) | (last != vocabulary.break_token)
    if wrong.any():
        number = int(wrong.nonzero()[0]) + 1
        raise InputError(expected="a final <break> followed by padding", remedy=ANEW, place=f"document {number}")


def fingerprints(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> Int64[Tensor, " n"]:
    """Return a 64-bit hash of each document, independent of its padding."""
    place = torch.arange(1, rows.shape[1] + 1, device=rows.device) * (vocabulary.num_data_tokens + 1)
    return (mix_hash(rows + place) * (rows != vocabulary.pad)).sum(1)
