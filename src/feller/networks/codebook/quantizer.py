"""Base classes of quantizers, which map feature vectors to a finite set of codes."""

import abc
from typing import ClassVar

from jaxtyping import Float, Int64
from torch import Tensor, nn

from feller.core.rng import Rng


class Quantizer(abc.ABC):
    """Base class of configurations of quantizers; subclasses are frozen dataclasses of plain values."""

    updates_from_batch: ClassVar[bool] = False
    """True if the codebook is updated from whole batches, so that the examples of a batch are not independent."""

    @property
    @abc.abstractmethod
    def codebook_size(self) -> int:
        """Number of codes."""

    @property
    @abc.abstractmethod
    def code_dim(self) -> int:
        """Dimension of a code vector."""

    @abc.abstractmethod
    def build(self) -> "Codebook":
        """Return the module that holds the codebook."""


class Codebook(nn.Module, abc.ABC):
    """Base class of codebook modules. Subclasses implement `forward`, `encode` and `decode`."""

    @abc.abstractmethod
    def forward(self, z: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, " b"]]:
        """Return the quantised features, with straight-through gradients, and the auxiliary loss of each example."""

    @abc.abstractmethod
    def encode(self, z: Float[Tensor, "*n d"]) -> Int64[Tensor, " *n"]:
        """Return the code of each feature vector."""

    @abc.abstractmethod
    def decode(self, codes: Int64[Tensor, " *n"]) -> Float[Tensor, "*n d"]:
        """Return the code vector of each code."""

    def update(self, z: Float[Tensor, "b n d"], rng: Rng) -> None:
        """Update the code vectors from a batch of features, in place and equally on all ranks; default: do nothing."""


def straight_through(z: Float[Tensor, " *n"], replacement: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
    """Return `replacement` in the forward pass, and pass its gradient on to z in the backward pass.

    Source: Bengio et al. 2013, "Estimating or propagating gradients through stochastic neurons", arXiv 1308.3432.
    """
    return z + (replacement - z).detach()
