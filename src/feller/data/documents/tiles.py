"""Image tokenizers without a network, for images with few distinct tiles or colours."""

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
"""Minimum average number of occurrences per distinct tile for which a lossless tile tokenizer is used."""
CHUNK = 2**14
"""Number of tiles compared with the codebook at a time, to limit memory."""


@dataclass(frozen=True)
class Tiles(ImageTokenizer):
    """Tokenizer that encodes each tile of an image by the nearest codebook tile; lossless for codebook tiles."""

    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    factor: int
    """Side of a tile in pixels."""
    tiles: tuple[str, ...]
    """Codebook: the pixel levels of each tile as hexadecimal digits, two per level; channel by channel, row by row."""

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        if self.factor < 1 or min(self.shape) < 1 or height % self.factor or width % self.factor:
            raise InputError(f"sides divisible by the tile side {self.factor}", f"{width} x {height}")
        digits = 2 * channels * self.factor**2
        if not self.tiles or len({*self.tiles}) < len(self.tiles) or {len(tile) for tile in self.tiles} != {digits}:
            raise InputError(
                f"at least one tile, and distinct tiles of {digits} hexadecimal digits",
                f"{len(self.tiles)} tiles, {len({*self.tiles})} of them distinct, of"
                f" {sorted({len(tile) for tile in self.tiles}) or 'no'} digits",
            )

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
        """Pixel values of each tile of the codebook; InputError if the text in `tiles` is not hexadecimal."""
        try:
            levels = np.frombuffer(bytes.fromhex("".join(self.tiles)), np.uint8)
        except ValueError as error:
            raise InputError("tiles as hexadecimal digits", f"{self.tiles[0]!r:.60}") from error
        return torch.from_numpy(levels.reshape(self.codebook_size, -1).copy())

    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Return the index of the nearest tile at each position; InputError for images of another shape."""
        check_images(pictures, self.shape)
        distinct, inverse = _different(_cut(pictures, self.factor))
        codebook = self._table.to(pictures.device).float()
        nearest = [_nearest(chunk.float(), codebook) for chunk in distinct.split(CHUNK)]
        rows, columns = self.grid
        return torch.cat(nearest)[inverse].reshape(len(pictures), rows * columns)

    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        """Reconstruct images from tiles; InputError if codes do not match the grid or the codebook."""
        check_codes(codes, self)
        channels, height, width = self.shape
        patches = self._table.to(codes.device)[codes].unflatten(1, self.grid)
        patches = patches.unflatten(3, (channels, self.factor, self.factor)).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(len(codes), channels, height, width)


def tiles_of(pictures: UInt8[Tensor, "m c h w"], factor: int, max_tiles: int) -> Tiles:
    """Return a tokenizer whose codebook is the `max_tiles` most frequent tiles of factor x factor pixels in images.

    InputError if there are no images, or their sides are not divisible by `factor`.
    """
    _, channels, height, width = pictures.shape
    if not len(pictures) or height % factor or width % factor:
        raise InputError(f"images divisible into tiles of {factor} x {factor}", list(pictures.shape))
    distinct, inverse = _different(_cut(pictures, factor))
    order = inverse.bincount().argsort(descending=True, stable=True)[:max_tiles]
    tiles = distinct[order].cpu().numpy()
    return Tiles((channels, height, width), factor, tuple(tile.tobytes().hex() for tile in tiles))


def tiles_or_none(pictures: UInt8[Tensor, "m c h w"], factor: int, max_tiles: int) -> Tiles | None:
    """Return a lossless tokenizer of tiles of factor x factor pixels, if the images consist of few, frequent tiles.

    The result is None if the images have more than `max_tiles` different tiles, the average tile occurs less than
    `MIN_REPEATS` times, sides are not divisible by `factor`, or there are no images.
    """
    if not len(pictures) or pictures.shape[2] % factor or pictures.shape[3] % factor:
        return None
    distinct = _different(_cut(pictures[: 2 * max_tiles], factor))[0]  # a subset suffices to rule out photographs
    if len(distinct) > max_tiles:
        return None
    tiles = tiles_of(pictures, factor, max_tiles + 1)
    height, width = tiles.grid
    return tiles if tiles.codebook_size <= min(max_tiles, len(pictures) * height * width // MIN_REPEATS) else None


def _cut(images: UInt8[Tensor, "m c h w"], factor: int) -> UInt8[Tensor, "n levels"]:
    """Cut images into tiles in raster order."""
    m, channels, height, width = images.shape
    patches = images.reshape(m, channels, height // factor, factor, width // factor, factor)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels * factor**2)


def _different(tiles: UInt8[Tensor, "n levels"]) -> tuple[UInt8[Tensor, "k levels"], Int64[Tensor, " n"]]:
    """Return the distinct tiles, and the index into them of each tile."""
    array = np.ascontiguousarray(tiles.cpu().numpy())
    size = array.shape[1]
    if size <= 8:  # packed integers sort faster than bytes, in the same order
        keys = np.pad(array, ((0, 0), (8 - size, 0))).view(">u8")[:, 0].astype(np.uint64)
    else:
        keys = array.view(np.dtype((np.void, size)))[:, 0]
    _, first_index, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return torch.from_numpy(array[first_index]).to(tiles.device), torch.from_numpy(inverse).to(tiles.device)


def _nearest(tiles: Float[Tensor, "n levels"], codebook: Float[Tensor, "count levels"]) -> Int64[Tensor, " n"]:
    """Return the index of the nearest codebook entry of each tile, the first on ties; distances are exact."""
    # |tile - code|^2 without |tile|^2, which is the same for all codes
    distances = codebook.square().sum(1) - 2 * tiles @ codebook.T
    index = torch.arange(len(codebook), device=codebook.device)
    return torch.where(distances == distances.amin(1, keepdim=True), index, len(codebook)).amin(1)


@dataclass(frozen=True)
class Palette(ImageTokenizer):
    """Tokenizer that encodes each pixel by the nearest palette colour; lossless for images with these colours only."""

    colours: tuple[tuple[int, ...], ...]
    """Palette: each colour is one level from 0 to 255 per channel."""
    height: int
    width: int

    def __post_init__(self) -> None:
        channels = {len(colour) for colour in self.colours}
        levels = {level for colour in self.colours for level in colour}
        if len(channels) != 1 or not levels or not all(0 <= level <= 255 for level in levels):
            raise InputError("colours with one level from 0 to 255 per channel", f"{self.colours!r:.60}")
        if len({*self.colours}) < len(self.colours) or min(self.height, self.width) < 1:
            raise InputError("distinct colours, and sides of at least 1", f"{self!r:.120}")

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
        """Return the index of the nearest palette colour for each pixel; on ties, the lowest index."""
        return self._tiles.encode(pictures)

    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        return self._tiles.decode(codes)


def palette_of(pictures: UInt8[Tensor, "m c h w"], max_colours: int) -> Palette:
    """Return a tokenizer with all colours of images, most frequent first; InputError for more than `max_colours`."""
    tokenizer = tiles_of(pictures, 1, max_colours + 1)
    if tokenizer.codebook_size > max_colours:
        remedy = "Reduce the colours, or fit a tokenizer: --recipe image-tokenizer"
        raise InputError(f"images of at most {max_colours:,} colours", f"{tokenizer.codebook_size:,} or more", remedy)
    return Palette(tuple(tuple(bytes.fromhex(tile)) for tile in tokenizer.tiles), *tokenizer.grid)
