"""Codes of 2 x 2 pixels: a codebook of those that drawings of few colours have, which come back exactly."""

from dataclasses import dataclass
from hashlib import blake2b

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from feller.data.documents.codes import PictureCodes, check_codes, check_pictures
from feller.data.documents.palette import Palette
from feller.errors import InputError
from feller.reproduce.cm3leon.colours import BLACK, COLOURS, LIGHT
from feller.reproduce.cm3leon.scenes import check_side

PALETTE = (*COLOURS.values(), BLACK, LIGHT)
"""All colours that there are."""
ACROSS = 2
"""Pixels of a side of a tile."""
PLACES = tuple(len(PALETTE) ** i for i in range(ACROSS**2))
"""What each pixel of a tile counts in its number."""


@dataclass(frozen=True)
class Tiles(PictureCodes):
    """One code for each tile: exact where the codebook has it, else the one whose colours are nearest.

    At 16 pixels a learned tokeniser of 500 to 4,000 codes, one for 2 x 2 pixels, reads a third to two thirds of scenes
    as they were after some seconds of training (20 to 23 dB), and writes a creature elsewhere on its ground in codes of
    which a third are others, so that there is little to copy.
    """

    side: int
    """Pixels of a side of a picture."""
    tiles: tuple[int, ...]
    """Numbers of the tiles that have a code: their colours are the digits."""

    def __post_init__(self) -> None:
        check_side(self.side)
        if not self.tiles or len({*self.tiles}) < len(self.tiles):
            raise InputError(f"expected different tiles, one or more, got {len(self.tiles)}; count them in pictures")

    @property
    def count(self) -> int:
        """As many as there are tiles."""
        return len(self.tiles)

    @property
    def grid(self) -> tuple[int, int]:
        """One for each tile."""
        return self.side // ACROSS, self.side // ACROSS

    @property
    def name(self) -> str:
        """A hash of the tiles."""
        return blake2b(repr((PALETTE, self)).encode(), digest_size=6).hexdigest()

    def encode(self, pictures: UInt8[Tensor, "m 3 h w"]) -> Int64[Tensor, "m codes"]:
        """Return the code of each tile, or of the nearest that has one.

        Raises:
            InputError: If the pictures have another shape.
        """
        check_pictures(pictures, (3, self.side, self.side))
        seen, which = numbers(pictures).unique(return_inverse=True)
        own = _levels(torch.tensor(self.tiles, device=seen.device))
        return torch.cdist(_levels(seen), own).argmin(1)[which]

    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m 3 h w"]:
        """Return the colours.

        Raises:
            InputError: If they are not as many as the grid has, or none of the codes.
        """
        check_codes(codes, self)
        digits = _digits(torch.tensor(self.tiles, device=codes.device)[codes])
        rows = digits.unflatten(1, self.grid).unflatten(3, (ACROSS, ACROSS)).transpose(2, 3)
        return Palette(PALETTE, self.side, self.side).decode(rows.reshape(len(codes), -1))


def learn_tiles(pictures: UInt8[Tensor, "m 3 h w"], most: int) -> Tiles:
    """Return a code for each of the most frequent tiles of pictures."""
    seen, count = numbers(pictures).unique(return_counts=True)
    order = count.argsort(descending=True, stable=True)[:most]
    return Tiles(pictures.shape[3], tuple(seen[order].tolist()))


def numbers(pictures: UInt8[Tensor, "m 3 h w"]) -> Int64[Tensor, "m tiles"]:
    """Return the number of each tile, row by row."""
    side = pictures.shape[3]
    pixels = Palette(PALETTE, side, side).encode(pictures)
    tiles = pixels.unflatten(1, (side // ACROSS, ACROSS, side // ACROSS, ACROSS)).transpose(2, 3).flatten(3)
    return (tiles * torch.tensor(PLACES, device=tiles.device)).sum(3).flatten(1)


def _digits(tiles: Int64[Tensor, " *n"]) -> Int64[Tensor, "*n pixels"]:
    return tiles[..., None] // torch.tensor(PLACES, device=tiles.device) % len(PALETTE)


def _levels(tiles: Int64[Tensor, " n"]) -> Float[Tensor, "n levels"]:
    """Return red, green and blue of all pixels of tiles."""
    return torch.tensor(PALETTE, dtype=torch.float32, device=tiles.device)[_digits(tiles)].flatten(1)
