"""How documents become vectors of which similar ones point the same way."""

import abc
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class DocumentEmbeddings:
    """Vectors of length 1 of the texts and of the pictures of documents; zeros where a document has none."""

    text: Float[Tensor, "n d"]
    picture: Float[Tensor, "n d"]
    has_text: Bool[Tensor, " n"]
    has_picture: Bool[Tensor, " n"]

    def whole(self) -> Float[Tensor, "n d"]:
        """Return the mean of both, of length 1, of what there is."""
        return F.normalize(self.text + self.picture, dim=1)


class DocumentEncoder(abc.ABC):
    """A bi-encoder: text and pictures become vectors of one space."""

    @property
    @abc.abstractmethod
    def module(self) -> nn.Module:
        """The network that it needs, whose weights a run keeps."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What tells it from others: vectors of one mean nothing to another."""

    @abc.abstractmethod
    def __call__(self, rows: Int64[Tensor, "n l"]) -> DocumentEmbeddings:
        """Return the vectors of documents, as rows of symbols."""
