"""How pictures become codes, and codes pictures again."""

import abc

from jaxtyping import Int64, UInt8
from torch import Tensor, nn


class PictureCodes(abc.ABC):
    """A tokeniser of pictures of one shape: a few whole numbers for each, in the order of reading."""

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """Different codes."""

    @property
    @abc.abstractmethod
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the codes of a picture."""

    @property
    def module(self) -> nn.Module | None:
        """The network that it needs, whose weights a run keeps; None where it needs none."""
        return None

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What tells it from others: codes of one mean nothing to another."""

    @abc.abstractmethod
    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Turn levels from 0 to 255 into codes, row by row of the grid."""

    @abc.abstractmethod
    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        """Turn codes into levels from 0 to 255."""
