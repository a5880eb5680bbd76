"""Codes of tiles that recur."""

import json

import pytest
import torch

from feller.core.errors import InputError
from feller.core.serialization import from_data, to_data
from feller.data.documents.image_codes import PictureCodes
from feller.data.documents.tiles import Tiles, recurring, tiles_of


def drawn(n: int, few: int, seed: int = 0) -> torch.Tensor:
    """Return pictures [n, 3, 4, 6] of some tiles of 2 x 2 pixels."""
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.randint(0, 256, (few, 3, 2, 2), generator=generator, dtype=torch.uint8)
    which = torch.randint(0, few, (n, 2, 3), generator=generator)
    return tiles[which].permute(0, 3, 1, 4, 2, 5).reshape(n, 3, 4, 6)


def test_pictures_of_known_tiles_come_back() -> None:
    pictures = drawn(20, 5)
    codes = tiles_of(pictures, 2, 8)
    assert (codes.count, codes.grid, codes.shape) == (5, (2, 3), (3, 4, 6))
    written = codes.encode(pictures)
    assert written.shape == (20, 6)
    assert codes.decode(codes.encode(pictures[:0])).shape == (0, 3, 4, 6)
    assert torch.equal(codes.decode(written), pictures)
    assert written.flatten().bincount().argmax() == 0  # the commonest first


def test_the_nearest_stands_for_others_by_a_plain_loop() -> None:
    codes, others = tiles_of(drawn(20, 5), 2, 3), drawn(4, 9, seed=1)
    table = codes.decode(torch.arange(3)[:, None].expand(3, 6))[:, :, :2, :2].double()
    for picture, row in zip(others.double(), codes.encode(others).tolist(), strict=True):
        cells = [picture[:, i : i + 2, j : j + 2] for i in (0, 2) for j in (0, 2, 4)]
        assert row == [int((table - cell).square().sum((1, 2, 3)).argmin()) for cell in cells]


def test_what_is_the_same_has_the_same_codes_wherever_it_is() -> None:
    pictures = drawn(6, 7)
    codes = tiles_of(pictures, 2, 8)
    moved = codes.encode(pictures.roll(2, 3)).unflatten(1, (2, 3))
    assert torch.equal(moved, codes.encode(pictures).unflatten(1, (2, 3)).roll(1, 2))


def test_tiles_recur_where_pictures_are_made_of_few() -> None:
    pictures = drawn(20, 5)
    assert recurring(pictures, 2, 5) == tiles_of(pictures, 2, 8)
    assert recurring(pictures, 2, 4) is None
    assert recurring(pictures[:2], 2, 8) is None  # 12 tiles, and less than 4 of each
    noise = torch.randint(0, 256, (20, 3, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert recurring(noise, 2, 1024) is None
    assert recurring(pictures, 4, 8) is None  # 6 pixels across
    assert recurring(pictures[:0], 2, 8) is None


def test_records_and_limits() -> None:
    codes = tiles_of(drawn(5, 3), 2, 3)
    assert from_data(PictureCodes, json.loads(json.dumps(to_data(codes)))) == codes
    assert codes.name != tiles_of(drawn(5, 3, seed=2), 2, 3).name
    with pytest.raises(InputError, match="sides that tiles of 4 divide"):
        Tiles((3, 4, 6), 4, codes.tiles)
    with pytest.raises(InputError, match="different tiles of 24 digits"):
        Tiles((3, 4, 6), 2, (codes.tiles[0], codes.tiles[0]))
    with pytest.raises(InputError, match="that tiles of 3 x 3 divide"):
        tiles_of(drawn(5, 3), 3, 8)
    with pytest.raises(InputError, match="hexadecimal"):
        Tiles((1, 2, 2), 2, ("zz000000",)).decode(torch.zeros(1, 1, dtype=torch.long))
