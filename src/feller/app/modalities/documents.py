"""Documents of texts and pictures."""

from typing import Any

from feller.app.modalities.registration import Registration, require_modality
from feller.core.errors import UsageError
from feller.data.documents.modality import Documents
from feller.models.model import Model
from feller.sampling.autoregressive.document_decoding import DocumentDecoder


def require_documents(model: Model) -> Documents:
    """Return the modality of a model of documents.

    Raises:
        UsageError: If it is of other data.
    """
    return require_modality(model, Documents, "prompts and memories are of documents")


def document_decoder(model: Model) -> DocumentDecoder:
    """Return the network of a model of documents, ready to be asked.

    Raises:
        UsageError: If it is of another kind.
    """
    network: Any = model.network.eval()
    if all(hasattr(network, name) for name in ("vocabulary", "context", "init_cache", "decode_step")):
        return network
    kind = type(network).__name__
    raise UsageError("a network that reads documents", kind, "Fit one with --recipe interleaved")


REGISTRATIONS = {Documents: Registration(recipe="interleaved", output="documents")}
