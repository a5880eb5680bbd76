"""Image codes: base class, and the palette code of one token per pixel."""

import abc
from dataclasses import dataclass
from hashlib import blake2b

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from feller.core.errors import InputError


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


def check_pictures(pictures: UInt8[Tensor, "m c h w"], shape: tuple[int, int, int]) -> None:
    """Refuse pictures of another shape than a tokeniser is for; InputError then; says both."""
    if tuple(pictures.shape[1:]) != shape:
        raise InputError(
            "expected pictures of {} channels, {} x {}, got {} channels, {} x {}; bring them to that size".format(
                *shape, *pictures.shape[1:]
            )
        )


def check_codes(codes: Int64[Tensor, "m codes"], of: PictureCodes) -> None:
    """Refuse what is not written by a tokeniser.

    Raises:
        InputError: If a picture has another number of codes than the grid, or one is not below the count.
    """
    rows, columns = of.grid
    wrong = (codes < 0) | (codes >= of.count)
    if codes.shape[1] != rows * columns or wrong.any():
        odd = f"and {int(wrong.sum())} of them are not" if wrong.any() else "for each"
        raise InputError(
            f"expected {rows * columns} codes of a picture, from 0 to {of.count - 1}, got {codes.shape[1]} {odd}; take"
            " them as the tokeniser wrote them"
        )


CHUNK = 2**16
"""Colours that are compared with all of a palette at once."""


@dataclass(frozen=True)
class Palette(PictureCodes):
    """Each pixel is written as the nearest of some colours; pictures of these come back exactly."""

    colours: tuple[tuple[int, ...], ...]
    """Levels from 0 to 255, one for each channel."""
    height: int
    width: int

    def __post_init__(self) -> None:
        channels = {len(colour) for colour in self.colours}
        levels = {level for colour in self.colours for level in colour}
        if len(channels) != 1 or not levels or not all(0 <= level <= 255 for level in levels):
            raise InputError(f"expected colours of as many levels from 0 to 255 each, got {self.colours!r:.60}")
        if len({*self.colours}) < len(self.colours) or min(self.height, self.width) < 1:
            raise InputError(f"expected different colours and sides of 1 or more, got {self!r:.120}")

    @property
    def count(self) -> int:
        """As many as there are colours."""
        return len(self.colours)

    @property
    def grid(self) -> tuple[int, int]:
        """One code a pixel."""
        return self.height, self.width

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        return len(self.colours[0]), self.height, self.width

    @property
    def name(self) -> str:
        """A hash of the colours."""
        return blake2b(repr(self.colours).encode(), digest_size=6).hexdigest()

    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Return the number of the nearest colour of each pixel, the first of those that are equally near.

        Raises:
            InputError: If the pictures have another shape.
        """
        check_pictures(pictures, self.shape)
        packed, places = _packed(pictures)
        different, which = packed.unique(return_inverse=True)
        nearest = [self._nearest((some[:, None] // places % 256).float()) for some in different.split(CHUNK)]
        return torch.cat(nearest)[which].flatten(1)

    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        """Return the colours; InputError if they are not as many as the grid has, or none of the codes."""
        check_codes(codes, self)
        return self._table(codes.device)[codes].mT.unflatten(2, self.grid).contiguous()

    def _nearest(self, levels: Float[Tensor, "n c"]) -> Int64[Tensor, " n"]:
        """Return the first of the nearest colours; the numbers are whole, and small enough to be exact."""
        colours = self._table(levels.device).float()
        away = colours.square().sum(1) - 2 * levels @ colours.T
        number = torch.arange(self.count, device=levels.device)
        return torch.where(away == away.amin(1, keepdim=True), number, self.count).amin(1)

    def _table(self, device: torch.device) -> UInt8[Tensor, "count c"]:
        return torch.tensor(self.colours, dtype=torch.uint8, device=device)


def palette_of(pictures: UInt8[Tensor, "m c h w"], most: int) -> Palette:
    """Return the colours of pictures, the commonest first.

    Args:
        pictures: Of one shape.
        most: Colours that there may be.

    Raises:
        InputError: If there are more.
    """
    packed, places = _packed(pictures)
    colours, counts = packed.unique(return_counts=True)
    if len(colours) > most:
        raise InputError(
            f"expected pictures of {most:,} colours at most, got {len(colours):,}; draw them in fewer, or fit a"
            " tokeniser: --recipe image-tokenizer"
        )
    order = counts.argsort(descending=True, stable=True)
    found = tuple(tuple(colour) for colour in (colours[order, None] // places % 256).tolist())
    return Palette(found, pictures.shape[2], pictures.shape[3])


def _packed(pictures: UInt8[Tensor, "m c h w"]) -> tuple[Int64[Tensor, "m h w"], Int64[Tensor, " c"]]:
    """Return one number for the colour of each pixel, which sorts faster than several, and what each channel counts."""
    places = 256 ** torch.arange(pictures.shape[1], device=pictures.device)
    packed = (pictures * places[:, None, None]).sum(1)
    return packed, places
