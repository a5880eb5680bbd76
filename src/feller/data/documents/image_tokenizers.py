"""Image tokenizers: base class and input checks."""

import abc

from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from feller.core.errors import InputError


class ImageTokenizer(abc.ABC):
    """Tokenizer of images of one shape: a fixed grid of discrete codes in raster order."""

    @property
    @abc.abstractmethod
    def codebook_size(self) -> int:
        """Size of the codebook: the number of different codes."""

    @property
    @abc.abstractmethod
    def grid(self) -> tuple[int, int]:
        """Number of rows and columns of the grid of codes of an image."""

    @property
    def module(self) -> nn.Module | None:
        """Network of the tokenizer, whose weights a run stores; None for a tokenizer without a network."""
        return None

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Identifier of the tokenizer; codes of different tokenizers are not interchangeable."""

    @abc.abstractmethod
    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Encode images with levels 0 to 255 as codes in raster order."""

    @abc.abstractmethod
    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        """Decode codes to images with levels 0 to 255."""


def check_images(pictures: UInt8[Tensor, "m c h w"], shape: tuple[int, int, int]) -> None:
    """Raise an InputError if images do not have the shape (c, h, w) of a tokenizer."""
    if tuple(pictures.shape[1:]) != shape:
        expected, actual = ("{} channels, {} x {}".format(*dims) for dims in (shape, pictures.shape[1:]))
        raise InputError(f"images of {expected}", actual, "Resize the images")


def check_codes(codes: Int64[Tensor, "m codes"], tokenizer: ImageTokenizer) -> None:
    """Raise an InputError if the number of codes per image or the range of the codes does not match a tokenizer."""
    rows, columns = tokenizer.grid
    is_invalid = (codes < 0) | (codes >= tokenizer.codebook_size)
    if codes.shape[1] != rows * columns or is_invalid.any():
        problem = (
            f"per image, {int(is_invalid.sum())} of all codes outside this range" if is_invalid.any() else "per image"
        )
        raise InputError(
            f"{rows * columns} codes per image, from 0 to {tokenizer.codebook_size - 1}",
            f"{codes.shape[1]} {problem}",
            "Use codes of the tokenizer of this model",
        )
