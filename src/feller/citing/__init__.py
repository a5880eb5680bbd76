"""Papers that objects are made after, found from what each class says of its source."""

from feller.citing.references import Reference, references
from feller.citing.sources import sources_of

__all__ = ["Reference", "references", "sources_of"]
