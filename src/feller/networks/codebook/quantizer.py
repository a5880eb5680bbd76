"""What brings vectors of features to one of finitely many, which a code names."""

import abc
from typing import ClassVar

from jaxtyping import Float, Int64
from torch import Tensor, nn

from feller.core.rng import Rng


class Quantizer(abc.ABC):
    """A kind of codes and their number; each kind is a frozen dataclass of plain values."""

    updates_from_batch: ClassVar[bool] = False
    """Whether the vectors of codes follow whole batches, so that examples look at each other."""

    @property
    @abc.abstractmethod
    def codebook_size(self) -> int:
        """Different codes."""

    @property
    @abc.abstractmethod
    def code_dim(self) -> int:
        """Numbers of a vector."""

    @abc.abstractmethod
    def build(self) -> "Codebook":
        """Make the part of a network that holds the codes."""


class Codebook(nn.Module, abc.ABC):
    """The codes in a network. Implement three methods to add a kind."""

    @abc.abstractmethod
    def forward(self, z: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, " b"]]:
        """Return vectors of codes in place of those of features, whose slope they keep, and what the loss adds."""

    @abc.abstractmethod
    def encode(self, z: Float[Tensor, "*n d"]) -> Int64[Tensor, " *n"]:
        """Return the codes of vectors of features."""

    @abc.abstractmethod
    def decode(self, codes: Int64[Tensor, " *n"]) -> Float[Tensor, "*n d"]:
        """Return the vectors of codes."""

    def update(self, z: Float[Tensor, "b n d"], rng: Rng) -> None:
        """Move the vectors of codes by those of a batch, where the kind follows; in place, the same on all ranks."""


def straight_through(z: Float[Tensor, " *n"], replacement: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
    """Return other numbers in place of z, with the slope of z itself.

    Source: Bengio et al. 2013, "Estimating or propagating gradients through stochastic neurons", arXiv 1308.3432.
    """
    return z + (replacement - z).detach()
