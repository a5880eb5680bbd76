"""Image codes: their base class, and checks of what they take."""

import abc

from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from feller.core.errors import InputError


class ImageTokenizer(abc.ABC):
    """A tokeniser of pictures of one shape: a few whole numbers for each, in the order of reading."""

    @property
    @abc.abstractmethod
    def codebook_size(self) -> int:
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


def check_images(pictures: UInt8[Tensor, "m c h w"], shape: tuple[int, int, int]) -> None:
    """Refuse pictures of another shape than a tokeniser is for; InputError then; says both."""
    if tuple(pictures.shape[1:]) != shape:
        ours, theirs = ("{} channels, {} x {}".format(*one) for one in (shape, pictures.shape[1:]))
        raise InputError(f"pictures of {ours}", theirs, "Bring them to that size")


def check_codes(codes: Int64[Tensor, "m codes"], tokenizer: ImageTokenizer) -> None:
    """Refuse what is not written by a tokeniser."""
    rows, columns = tokenizer.grid
    wrong = (codes < 0) | (codes >= tokenizer.codebook_size)
    if codes.shape[1] != rows * columns or wrong.any():
        odd = f"and {int(wrong.sum())} of them are not" if wrong.any() else "for each"
        raise InputError(
            f"{rows * columns} codes of a picture, from 0 to {tokenizer.codebook_size - 1}",
            f"{codes.shape[1]} {odd}",
            "Take them as the tokeniser wrote them",
        )
