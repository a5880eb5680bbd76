"""Registration of the document modality: text with images."""

from typing import Any

from feller.app.modalities.registration import Registration, require_modality
from feller.core.errors import UsageError
from feller.data.documents.modality import Documents
from feller.models.model import Model
from feller.sampling.autoregressive.document_decoding import DocumentDecoder


def require_documents(model: Model) -> Documents:
    """Return the modality of a document model; UsageError if the model has another modality."""
    return require_modality(model, Documents, "prompts and datastores require a model of documents")


def document_decoder(model: Model) -> DocumentDecoder:
    """Return the network of a document model in eval mode.

    Raises:
        UsageError: If the network is not an autoregressive decoder of documents.
    """
    network: Any = model.network.eval()
    if all(hasattr(network, name) for name in ("vocabulary", "context", "init_cache", "decode_step")):
        return network
    class_name = type(network).__name__
    raise UsageError("an autoregressive document network", class_name, "Fit a model with --recipe interleaved")


REGISTRATIONS = {Documents: Registration(recipe="interleaved", output="documents")}
