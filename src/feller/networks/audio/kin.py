"""Embeddings of labels some of which are kin."""

from jaxtyping import Float, Int64
from torch import Tensor, nn

from feller.networks.blocks.conditioning import zero


class Kin(nn.Module):
    """Embeds labels that come in groups, as a phone comes in the four places of a word.

    Kin share an embedding, to which each adds its own, which is zero at first: a label that training hardly has is
    taken for one of its kin. The first label and "not given", behind the last, have no kin.
    """

    def __init__(self, labels: int, size: int, width: int) -> None:
        """Make embeddings of so many features, for groups of so many labels."""
        super().__init__()
        self.labels, self.size = labels, size
        self.shared = nn.Embedding(2 + -(-(labels - 1) // size), width)
        self.own = zero(nn.Embedding(labels + 1, width))

    def forward(self, label: Int64[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Embed labels, and `labels` itself as "not given"."""
        group = (label + self.size - 1) // self.size
        group = group.masked_fill(label == self.labels, self.shared.num_embeddings - 1)
        return self.shared(group) + self.own(label)
