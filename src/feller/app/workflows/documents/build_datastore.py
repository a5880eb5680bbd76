"""Datastores of documents for retrieval: building, saving and loading."""

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


def makers(kind: Documents) -> DatastoreOrigin:
    """Return identifiers of the components that encode documents for a datastore: tokenizer, vocabulary and encoder.

    Raises:
        UsageError: If the model has no retrieval encoder.
    """
    vocabulary_hash = hashlib.sha256(json.dumps(to_dict(kind.vocabulary), sort_keys=True).encode()).hexdigest()[:12]
    return DatastoreOrigin(kind.tokenizer.name, vocabulary_hash, _finder(kind).name)


def open_datastore(kind: Documents, source: str) -> IndexedDatastore:
    """Load a datastore from a file, or build one from documents.

    Args:
        kind: Modality of the model.
        source: File or folder of documents, or a datastore file.

    Raises:
        InputError: If the datastore is damaged, empty, or belongs to another model.
        UsageError: If the model has no retrieval encoder, or `source` is the empty string.
    """
    if not source.strip():
        raise UsageError(
            "documents", "an empty name", "Give a folder or a file, or leave --memory out", argument="memory"
        )
    encoder, path = _finder(kind), pathlib.Path(source)
    if path.suffix.lower() != DATASTORE_SUFFIX or (path.is_file() and array_names(path) >= DOCUMENT_KEYS):
        return IndexedDatastore(build_datastore(kind, source), encoder)
    if not path.is_file():
        raise InputError(
            f"the datastore {source}",
            "none",
            f"Build the datastore: feller data memory DOCUMENTS --run RUN --out {source}",
        )
    datastore = load_datastore(path, kind.symbols, makers(kind))
    dim, stored_dim = encoder(datastore.rows[:1]).text.shape[1], datastore.vectors.shape[1]
    if dim != stored_dim:
        raise InputError(f"embeddings of dimension {dim}", stored_dim, "Rebuild the datastore", file=source)
    return IndexedDatastore(datastore, encoder)


def build_datastore(kind: Documents, source: str) -> Datastore:
    """Build a datastore of the documents in the file or folder `source`, embedded by the encoder of modality `kind`.

    Raises:
        InputError: If the documents cannot be read, or there are no documents.
        UsageError: If the modality has no retrieval encoder.
    """
    data = read(source, like=kind)
    return create_datastore(data.modality.encode(data.values), _finder(kind), kind.symbols)


def write_datastore(run: Run, source: str, out: str) -> int:
    """Build and save a datastore, and return the number of its documents.

    Raises:
        InputError: If the run or the documents are invalid.
        UsageError: If the run is not a document model or has no retrieval encoder, or `out` does not have the suffix of
            datastores.
    """
    if pathlib.Path(out).suffix.lower() != DATASTORE_SUFFIX:
        raise UsageError(f"a file name that ends in {DATASTORE_SUFFIX}", out)
    modality = require_documents(load_model(run))
    datastore = build_datastore(modality, source)
    path = pathlib.Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_datastore(datastore, makers(modality), path)
    except OSError as error:
        raise cannot_write(out, error) from error
    return len(datastore)


def _finder(modality: Documents) -> DocumentEncoder:
    """Return the encoder that retrieves documents; UsageError if the model has none."""
    if modality.vectors is None:
        raise UsageError("requires a model with a retrieval encoder", remedy="Leave it out", argument="memory")
    return modality.vectors
