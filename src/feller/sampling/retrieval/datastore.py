"""Datastore of documents for retrieval: token rows and embedding vectors."""

import pathlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError, error_context
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
    """Tokens of each document as in the training data: padded, and with tokens that mark start and end of answers."""
    vectors: Float[Tensor, "n d"]
    """Unit-norm embeddings of whole documents."""
    has_both: Bool[Tensor, " n"]
    """True for documents with both text and image."""

    def __len__(self) -> int:
        return len(self.rows)


def create_datastore(rows: Int64[Tensor, "n l"], encoder: DocumentEncoder, vocabulary: DocumentVocabulary) -> Datastore:
    """Build a datastore of the documents `rows`, with the vectors that `encoder` computes.

    Raises:
        InputError: If there are no documents.
    """
    if not len(rows):
        raise InputError("a datastore of at least one document", "none", "Add documents, or omit the datastore")
    encoded = encoder(rows)
    return Datastore(vocabulary, rows, encoded.whole(), encoded.has_text & encoded.has_picture)


def save_datastore(datastore: Datastore, origin: DatastoreOrigin, path: pathlib.Path) -> None:
    """Write a datastore to an .npz file, with the identifiers of the models that encoded it."""
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
    with error_context(path):
        return _memory_of(arrays, vocabulary, origin, path)


def _memory_of(
    arrays: Mapping[str, np.ndarray], vocabulary: DocumentVocabulary, origin: DatastoreOrigin, path: pathlib.Path
) -> Datastore:
    formats = {name: (arrays[name].dtype.kind, arrays[name].ndim) for name, *_ in _FORM if name in arrays}
    invalid = [name for name, kind, ndim in _FORM if formats.get(name) != (kind, ndim)]
    if invalid or not len(arrays["symbols"]) == len(arrays["makers"]) == 3 or arrays["symbols"].min() < 1:
        raise InputError(
            "a datastore of documents", f"invalid {', '.join(invalid) or 'arrays `symbols` or `makers`'}", ANEW
        )
    stored_origin = DatastoreOrigin(*map(str, arrays["makers"]))
    for label, file, expected, found in (
        ("image tokenizer", "tokenizer.safetensors, or model.json", origin.codes, stored_origin.codes),
        ("vocabulary", "model.json", origin.text, stored_origin.text),
        ("document encoder", "vectors.safetensors", origin.vectors, stored_origin.vectors),
        ("vocabulary size", "model.json", vocabulary, DocumentVocabulary(*map(int, arrays["symbols"]))),
    ):
        if expected != found:
            raise InputError(
                f"belongs to another run: its {label} differs from that of this run ({file})",
                remedy=f"{ANEW}: feller data memory DOCUMENTS --run RUN --out {path}",
            )
    # Convert with NumPy first, because torch supports neither foreign byte orders nor long doubles.
    rows, vectors, has_both = (
        torch.from_numpy(arrays[name].astype(dtype))
        for name, dtype in (("rows", np.int64), ("vectors", np.float32), ("both", np.bool_))
    )
    if not len(rows) == len(vectors) == len(has_both):
        raise InputError(
            "arrays `rows`, `vectors` and `both` of equal length",
            f"{len(rows)}, {len(vectors)} and {len(has_both)}",
            ANEW,
        )
    if not len(rows):
        raise InputError("a datastore of at least one document", "none", ANEW)
    _check(rows, vocabulary)
    if not vectors.isfinite().all():
        raise InputError("finite vectors", "infinity or NaN", ANEW)
    return Datastore(vocabulary, rows, vectors, has_both)


def _check(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> None:
    if (rows < 0).any() or (rows >= vocabulary.num_data_tokens).any() or not rows.shape[1]:
        raise InputError("rows of valid tokens", "invalid ids, or empty rows", ANEW)
    try:
        round_trip = to_tokens(*from_tokens(rows, vocabulary), vocabulary)
        for row in round_trip.numpy():
            read_document(row, vocabulary)
    except InputError as error:
        raise InputError(error, remedy=ANEW) from error
    max_length = max(round_trip.shape[1], rows.shape[1])
    expected, found = (
        F.pad(tokens, (0, max_length - tokens.shape[1]), value=vocabulary.pad) for tokens in (round_trip, rows)
    )
    last_tokens = found.gather(1, (found != vocabulary.pad).sum(1, keepdim=True) - 1)[:, 0]
    is_invalid = (expected != found).any(1) | (last_tokens != vocabulary.break_token)
    if is_invalid.any():
        document_number = int(is_invalid.nonzero()[0]) + 1
        raise InputError(
            expected="a final <break> followed by padding", remedy=ANEW, place=f"document {document_number}"
        )


def fingerprints(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> Int64[Tensor, " n"]:
    """Return a 64-bit hash of each document, independent of its padding."""
    offset = torch.arange(1, rows.shape[1] + 1, device=rows.device) * (vocabulary.num_data_tokens + 1)
    return (mix_hash(rows + offset) * (rows != vocabulary.pad)).sum(1)
