"""Documents that a model looks up: a folder of them, or a file that was built before."""

import hashlib
import json
import pathlib

from feller.app.modalities.documents import require_documents
from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.data.documents.dataset import DOCUMENT_KEYS
from feller.data.documents.document_encoder import DocumentEncoder
from feller.data.documents.modality import Documents
from feller.data.files.numpy_files import array_names
from feller.data.loading.dataset_reader import read
from feller.models.model import load_model
from feller.sampling.retrieval.datastore import (
    Datastore,
    DatastoreOrigin,
    create_datastore,
    load_datastore,
    save_datastore,
)
from feller.sampling.retrieval.retriever import IndexedDatastore

DATASTORE_SUFFIX = ".npz"
"""Ending of a memory in a file."""


def makers(kind: Documents) -> DatastoreOrigin:
    """Name what gives documents their numbers.

    Raises:
        UsageError: If the model looks nothing up.
    """
    words = hashlib.sha256(json.dumps(to_dict(kind.vocabulary), sort_keys=True).encode()).hexdigest()[:12]
    return DatastoreOrigin(kind.tokenizer.name, words, _finder(kind).name)


def open_datastore(kind: Documents, source: str) -> IndexedDatastore:
    """Return what a model looks documents up in.

    Args:
        kind: The model's modality.
        source: A file or folder of documents, or a memory that was built.

    Raises:
        InputError: If it is damaged, empty, or another model's.
        UsageError: If the model looks nothing up, or nothing is named.
    """
    if not source.strip():
        raise UsageError("names no documents", remedy="Give a folder or a file, or leave it out", argument="memory")
    finder, path = _finder(kind), pathlib.Path(source)
    if path.suffix.lower() != DATASTORE_SUFFIX or (path.is_file() and array_names(path) >= DOCUMENT_KEYS):
        return IndexedDatastore(build_datastore(kind, source), finder)
    if not path.is_file():
        raise InputError(
            f"there is no memory {source}", remedy=f"Build it: feller data memory DOCUMENTS --run RUN --out {source}"
        )
    memory = load_datastore(path, kind.symbols, makers(kind))
    ours, theirs = finder(memory.rows[:1]).text.shape[1], memory.vectors.shape[1]
    if ours != theirs:
        raise InputError(f"vectors of {ours} numbers", theirs, "Build it anew", file=source)
    return IndexedDatastore(memory, finder)


def build_datastore(kind: Documents, source: str) -> Datastore:
    """Make a memory of the documents of a file or folder.

    Raises:
        InputError: If they cannot be read, or there are none.
        UsageError: If the model looks nothing up.
    """
    data = read(source, like=kind)
    return create_datastore(data.modality.encode(data.values), _finder(kind), kind.symbols)


def write_datastore(run: Run, source: str, out: str) -> int:
    """Write a memory of the documents of a file or folder, and return how many there are.

    Raises:
        InputError: If run or documents are not what they must be.
        UsageError: If the run is of other data, or looks nothing up, or the name has another ending.
    """
    if pathlib.Path(out).suffix.lower() != DATASTORE_SUFFIX:
        raise UsageError(f"a file *{DATASTORE_SUFFIX} for the memory", out)
    kind = require_documents(load_model(run))
    memory = build_datastore(kind, source)
    path = pathlib.Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_datastore(memory, makers(kind), path)
    except OSError as error:
        raise cannot_write(out, error) from error
    return len(memory)


def _finder(kind: Documents) -> DocumentEncoder:
    """Return what finds documents."""
    if kind.vectors is None:
        raise UsageError(
            "this model was fitted without what finds documents, so it has no memory",
            remedy="Leave it out",
            argument="memory",
        )
    return kind.vectors
