"""A memory of documents: their rows, and vectors by which they are found."""

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
"""Arrays of a file, their kinds, and how many axes they have."""
ANEW = "Build it anew"


@dataclass(frozen=True)
class DatastoreOrigin:
    """Names of what gave a memory its numbers, which mean nothing to others."""

    codes: str
    """Tokeniser of the pictures."""
    text: str
    """Vocabulary of the texts."""
    vectors: str
    """Bi-encoder."""


@dataclass(frozen=True, eq=False)
class Datastore:
    """Documents that can be looked up."""

    vocabulary: DocumentVocabulary
    rows: Int64[Tensor, "n l"]
    """As the data hold them: padded, with marks of answers."""
    vectors: Float[Tensor, "n d"]
    """Of whole documents, of length 1."""
    has_both: Bool[Tensor, " n"]
    """Which have text and picture."""

    def __len__(self) -> int:
        return len(self.rows)


def create_datastore(rows: Int64[Tensor, "n l"], encoder: DocumentEncoder, vocabulary: DocumentVocabulary) -> Datastore:
    """Make a memory of documents.

    Raises:
        InputError: If there are none.
    """
    if not len(rows):
        raise InputError("a memory of at least one document", "none", "Add documents, or do without a memory")
    encoded = encoder(rows)
    return Datastore(vocabulary, rows, encoded.whole(), encoded.has_text & encoded.has_picture)


def save_datastore(datastore: Datastore, origin: DatastoreOrigin, path: pathlib.Path) -> None:
    """Write a memory as an .npz."""
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
    """Read a memory that the same makers gave its numbers.

    Raises:
        InputError: If it is damaged, empty, or another's.
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
        raise InputError("a memory of documents", f"no {', '.join(wrong) or 'names or numbers'} of its form", ANEW)
    own = DatastoreOrigin(*map(str, found["makers"]))
    for what, file, ours, theirs in (
        ("tokeniser of pictures", "tokenizer.safetensors, or model.json", makers.codes, own.codes),
        ("vocabulary", "model.json", makers.text, own.text),
        ("network that finds documents", "vectors.safetensors", makers.vectors, own.vectors),
        ("number of symbols", "model.json", symbols, DocumentVocabulary(*map(int, found["symbols"]))),
    ):
        if ours != theirs:
            raise InputError(
                f"belongs to another run: the {what} that it was built with is not that of this run ({file})",
                remedy=f"{ANEW}: feller data memory DOCUMENTS --run RUN --out {path}",
            )
    # NumPy's copy first: torch knows neither other orders of bytes nor long doubles.
    rows, vectors, both = (
        torch.from_numpy(found[name].astype(dtype))
        for name, dtype in (("rows", np.int64), ("vectors", np.float32), ("both", np.bool_))
    )
    if not len(rows) == len(vectors) == len(both):
        raise InputError("as many rows as vectors and marks", f"{len(rows)}, {len(vectors)} and {len(both)}", ANEW)
    if not len(rows):
        raise InputError("a memory of at least one document", "none", ANEW)
    _check(rows, symbols)
    if not vectors.isfinite().all():
        raise InputError("finite vectors", "others", ANEW)
    return Datastore(symbols, rows, vectors, both)


def _check(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> None:
    """Check that rows are documents, padded behind their ends."""
    if (rows < 0).any() or (rows >= vocabulary.num_data_tokens).any() or not rows.shape[1]:
        raise InputError("rows of symbols", "other numbers", ANEW)
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
        raise InputError(expected="a <break> at the end, then padding", remedy=ANEW, place=f"document {number}")


def fingerprints(rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary) -> Int64[Tensor, " n"]:
    """Return a number of 64 bits for each document, by which equal ones are known, however far they are padded."""
    place = torch.arange(1, rows.shape[1] + 1, device=rows.device) * (vocabulary.num_data_tokens + 1)
    return (mix_hash(rows + place) * (rows != vocabulary.pad)).sum(1)
