"""Document encoders for retrieval: text and image embeddings in one space."""

import abc
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class DocumentEmbeddings:
    """Unit-norm embeddings of documents, separate for texts and images; zeros where a document has no text or image."""

    text: Float[Tensor, "n d"]
    picture: Float[Tensor, "n d"]
    has_text: Bool[Tensor, " n"]
    has_picture: Bool[Tensor, " n"]

    def whole(self) -> Float[Tensor, "n d"]:
        """Return one embedding per document: the normalised sum of its text and image embeddings."""
        return F.normalize(self.text + self.picture, dim=1)


class DocumentEncoder(abc.ABC):
    """Base class of encoders that embed the texts and images of documents in one space."""

    @property
    @abc.abstractmethod
    def module(self) -> nn.Module:
        """Network of the encoder, whose weights a run stores."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Identifier of the encoder; embeddings of different encoders are not comparable."""

    @abc.abstractmethod
    def __call__(self, rows: Int64[Tensor, "n l"]) -> DocumentEmbeddings:
        """Embed documents, given as rows in the document layout (see `token_layout`)."""
