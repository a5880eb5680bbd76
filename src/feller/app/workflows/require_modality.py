"""Require the modality that a workflow needs."""

from typing import Any, TypeVar, cast

from feller.core.errors import UsageError
from feller.data.documents.modality import Documents
from feller.data.modality import Modality
from feller.data.speech.modality import Speech
from feller.models.model import Model
from feller.paths import Affine
from feller.sampling.autoregressive.document_decode import Reader

Kind = TypeVar("Kind", bound=Modality)


def kind_as(model: Model, wanted: type[Kind], what: str) -> Kind:
    """Return the modality of a model.

    Args:
        model: Of any data.
        wanted: What the modality must be.
        what: Says, as in "voices are of speech", for which flags that is.

    Raises:
        UsageError: If it is another.
    """
    kind = model.description.modality
    if isinstance(kind, wanted):
        return kind
    raise UsageError(f"{what}, and this model's data are {kind.called}; leave them out")


def require_documents(model: Model) -> Documents:
    """Return the modality of a model of documents.

    Raises:
        UsageError: If it is of other data.
    """
    return kind_as(model, Documents, "prompts and memories are of documents")


def reader(model: Model) -> Reader:
    """Return the network of a model of documents, ready to be asked.

    Raises:
        UsageError: If it is of another kind.
    """
    network: Any = model.network.eval()
    if all(hasattr(network, name) for name in ("symbols", "context", "begin", "next")):
        return network
    kind = type(network).__name__
    raise UsageError(f"expected a network that reads documents, got {kind}; fit one with --recipe interleaved")


def require_speech(model: Model) -> Speech:
    """Return the modality of a model of speech.

    Raises:
        UsageError: If it is of other data.
    """
    return kind_as(model, Speech, "texts and voices are of speech")


def path_of(model: Model) -> Affine:
    """Return the path of a model that draws frames.

    Raises:
        UsageError: If it has another.
    """
    if model.family.in_time and model.description.path.affine_schedule is not None:
        return cast(Affine, model.description.path)
    raise UsageError(
        f"expected a model that draws frames, got one that {model.family.describe()}; fit one with --recipe speech"
    )
