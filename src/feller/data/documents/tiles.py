"""Codes of pictures in which few small squares or colours recur: one for each of them, without a network."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from feller.core.errors import InputError
from feller.core.migrations import repr_before
from feller.data.documents.image_tokenizers import ImageTokenizer, check_codes, check_images

MIN_REPEATS = 4
"""Times that tiles come on average, at least, where they are said to recur."""
CHUNK = 2**14
"""Tiles that are compared with all of a codebook at once."""


@dataclass(frozen=True)
class Tiles(ImageTokenizer):
    """Each square of factor x factor pixels is written as the nearest tile of a codebook; its own come back exactly.

    A code depends on its square alone: what is the same in two pictures has the same codes, wherever it is.
    """

    shape: tuple[int, int, int]
    """Channels, height and width of a picture."""
    factor: int
    """Pixels of a side of a tile."""
    tiles: tuple[str, ...]
    """The levels of each in hexadecimal digits, two for each: channel after channel, row by row."""

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        if self.factor < 1 or min(self.shape) < 1 or height % self.factor or width % self.factor:
            raise InputError(f"sides that tiles of {self.factor} divide", f"{width} x {height}")
        digits = 2 * channels * self.factor**2
        if not self.tiles or len({*self.tiles}) < len(self.tiles) or {len(tile) for tile in self.tiles} != {digits}:
            raise InputError(f"different tiles of {digits} digits, one or more", len(self.tiles))

    @property
    def codebook_size(self) -> int:
        return len(self.tiles)

    @property
    def grid(self) -> tuple[int, int]:
        _, height, width = self.shape
        return height // self.factor, width // self.factor

    @property
    def name(self) -> str:
        return blake2b(repr_before(self).encode(), digest_size=6).hexdigest()

    @cached_property
    def _table(self) -> UInt8[Tensor, "count levels"]:
        """Return the levels of the tiles; InputError if they are no hexadecimal digits."""
        try:
            levels = np.frombuffer(bytes.fromhex("".join(self.tiles)), np.uint8)
        except ValueError as error:
            raise InputError("tiles in hexadecimal digits", f"{self.tiles[0]!r:.60}") from error
        return torch.from_numpy(levels.reshape(self.codebook_size, -1).copy())

    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Return the number of each tile, or of the nearest; InputError if the pictures have another shape."""
        check_images(pictures, self.shape)
        different, which = _different(_cut(pictures, self.factor))
        own = self._table.to(pictures.device).float()
        nearest = [_nearest(some.float(), own) for some in different.split(CHUNK)]
        rows, columns = self.grid
        return torch.cat(nearest)[which].reshape(len(pictures), rows * columns)

    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        """Lay the tiles out; InputError if they are not as many as the grid has, or none of the codes."""
        check_codes(codes, self)
        channels, height, width = self.shape
        parts = self._table.to(codes.device)[codes].unflatten(1, self.grid)
        parts = parts.unflatten(3, (channels, self.factor, self.factor)).permute(0, 3, 1, 4, 2, 5)
        return parts.reshape(len(codes), channels, height, width)


def tiles_of(pictures: UInt8[Tensor, "m c h w"], factor: int, max_tiles: int) -> Tiles:
    """Return the commonest tiles of pictures of one shape, commonest first; of others the nearest of `max_tiles`.

    A side of a tile is `factor` pixels. InputError if there are no pictures, or tiles do not divide them.
    """
    _, channels, height, width = pictures.shape
    if not len(pictures) or height % factor or width % factor:
        raise InputError(f"pictures that tiles of {factor} x {factor} divide", list(pictures.shape))
    different, which = _different(_cut(pictures, factor))
    order = which.bincount().argsort(descending=True, stable=True)[:max_tiles]
    found = different[order].cpu().numpy()
    return Tiles((channels, height, width), factor, tuple(tile.tobytes().hex() for tile in found))


def tiles_or_none(pictures: UInt8[Tensor, "m c h w"], factor: int, max_tiles: int) -> Tiles | None:
    """Return the tiles that all pictures consist of, where these are few and come again; arguments as of `tiles_of`."""
    if not len(pictures) or pictures.shape[2] % factor or pictures.shape[3] % factor:
        return None
    some = _different(_cut(pictures[: 2 * max_tiles], factor))[0]  # photographs are told by some of them
    if len(some) > max_tiles:
        return None
    found = tiles_of(pictures, factor, max_tiles + 1)
    height, width = found.grid
    return found if found.codebook_size <= min(max_tiles, len(pictures) * height * width // MIN_REPEATS) else None


def _cut(pictures: UInt8[Tensor, "m c h w"], factor: int) -> UInt8[Tensor, "n levels"]:
    """Return the tiles of pictures, row by row."""
    m, channels, height, width = pictures.shape
    parts = pictures.reshape(m, channels, height // factor, factor, width // factor, factor)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels * factor**2)


def _different(tiles: UInt8[Tensor, "n levels"]) -> tuple[UInt8[Tensor, "k levels"], Int64[Tensor, " n"]]:
    """Return the different tiles, and which of them each is."""
    plain = np.ascontiguousarray(tiles.cpu().numpy())
    size = plain.shape[1]
    if size <= 8:  # numbers sort faster than bytes, in the same order
        packed = np.pad(plain, ((0, 0), (8 - size, 0))).view(">u8")[:, 0].astype(np.uint64)
    else:
        packed = plain.view(np.dtype((np.void, size)))[:, 0]
    _, first, which = np.unique(packed, return_index=True, return_inverse=True)
    return torch.from_numpy(plain[first]).to(tiles.device), torch.from_numpy(which).to(tiles.device)


def _nearest(tiles: Float[Tensor, "n levels"], codebook: Float[Tensor, "count levels"]) -> Int64[Tensor, " n"]:
    """Return the first of the nearest; levels are whole and few, so that their squares are exact."""
    away = codebook.square().sum(1) - 2 * tiles @ codebook.T
    number = torch.arange(len(codebook), device=codebook.device)
    return torch.where(away == away.amin(1, keepdim=True), number, len(codebook)).amin(1)


@dataclass(frozen=True)
class Palette(ImageTokenizer):
    """Each pixel is written as the nearest of some colours; pictures of these come back exactly."""

    colours: tuple[tuple[int, ...], ...]
    """Levels from 0 to 255, one for each channel."""
    height: int
    width: int

    def __post_init__(self) -> None:
        channels = {len(colour) for colour in self.colours}
        levels = {level for colour in self.colours for level in colour}
        if len(channels) != 1 or not levels or not all(0 <= level <= 255 for level in levels):
            raise InputError("colours of as many levels from 0 to 255 each", f"{self.colours!r:.60}")
        if len({*self.colours}) < len(self.colours) or min(self.height, self.width) < 1:
            raise InputError("different colours and sides of 1 or more", f"{self!r:.120}")

    @cached_property
    def _tiles(self) -> Tiles:
        shape = len(self.colours[0]), self.height, self.width
        return Tiles(shape, 1, tuple(bytes(colour).hex() for colour in self.colours))

    @property
    def codebook_size(self) -> int:
        return len(self.colours)

    @property
    def grid(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def name(self) -> str:
        return blake2b(repr(self.colours).encode(), digest_size=6).hexdigest()

    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Return the number of the nearest colour of each pixel, the first of those that are equally near."""
        return self._tiles.encode(pictures)

    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        return self._tiles.decode(codes)


def palette_of(pictures: UInt8[Tensor, "m c h w"], max_colours: int) -> Palette:
    """Return the colours of pictures of one shape, commonest first; InputError if there are more than `max_colours`."""
    found = tiles_of(pictures, 1, max_colours + 1)
    if found.codebook_size > max_colours:
        remedy = "draw them in fewer, or fit a tokeniser: --recipe image-tokenizer"
        raise InputError(f"pictures of {max_colours:,} colours at most", f"{found.codebook_size:,} or more", remedy)
    return Palette(tuple(tuple(bytes.fromhex(tile)) for tile in found.tiles), *found.grid)
