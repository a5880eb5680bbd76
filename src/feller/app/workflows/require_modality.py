"""What a model's data must be for what is asked of it."""

from typing import TypeVar

from feller.core.errors import UsageError
from feller.data.modality import Modality
from feller.models.model import Model

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
