"""Image tokenizers of recurring tiles and of colour palettes."""

import json

import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.documents import tiles
from feller.data.documents.image_tokenizers import ImageTokenizer
from feller.data.documents.tiles import Palette, Tiles, palette_of, tiles_of, tiles_or_none
from tests.errors import numbers, refuses


def drawn(n: int, few: int, seed: int = 0) -> torch.Tensor:
    """Return images [n, 3, 4, 6] composed of `few` tiles of 2 x 2 pixels."""
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.randint(0, 256, (few, 3, 2, 2), generator=generator, dtype=torch.uint8)
    which = torch.randint(0, few, (n, 2, 3), generator=generator)
    return tiles[which].permute(0, 3, 1, 4, 2, 5).reshape(n, 3, 4, 6)


def test_tiles_round_trip() -> None:
    pictures = drawn(20, 5)
    codes = tiles_of(pictures, 2, 8)
    assert (codes.codebook_size, codes.grid, codes.shape) == (5, (2, 3), (3, 4, 6))
    written = codes.encode(pictures)
    assert written.shape == (20, 6)
    assert codes.decode(codes.encode(pictures[:0])).shape == (0, 3, 4, 6)
    assert torch.equal(codes.decode(written), pictures)
    assert written.flatten().bincount().argmax() == 0  # the commonest first


def test_unknown_tiles_take_the_nearest_code() -> None:
    codes, others = tiles_of(drawn(20, 5), 2, 3), drawn(4, 9, seed=1)
    table = codes.decode(torch.arange(3)[:, None].expand(3, 6))[:, :, :2, :2].double()
    for picture, row in zip(others.double(), codes.encode(others).tolist(), strict=True):
        cells = [picture[:, i : i + 2, j : j + 2] for i in (0, 2) for j in (0, 2, 4)]
        assert row == [int((table - cell).square().sum((1, 2, 3)).argmin()) for cell in cells]


def test_tiles_are_found_only_in_images_of_few_tiles() -> None:
    pictures = drawn(20, 5)
    assert tiles_or_none(pictures, 2, 5) == tiles_of(pictures, 2, 8)
    assert tiles_or_none(pictures, 2, 4) is None
    assert tiles_or_none(pictures[:2], 2, 8) is None  # 12 tiles, and less than 4 of each
    noise = torch.randint(0, 256, (20, 3, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert tiles_or_none(noise, 2, 1024) is None
    assert tiles_or_none(pictures, 4, 8) is None  # 6 pixels across
    assert tiles_or_none(pictures[:0], 2, 8) is None


def test_invalid_tiles_are_refused() -> None:
    tiles = tiles_of(drawn(5, 3), 2, 3).tiles
    with refuses(InputError, found="6 x 4"):
        Tiles((3, 4, 6), 4, tiles)
    for invalid, found in (((), ["0", "0"]), ((tiles[0],) * 2, ["2", "1", "24"]), (("00",), ["1", "1", "2"])):
        with refuses(InputError) as caught:
            Tiles((3, 4, 6), 2, invalid)
        assert numbers(caught.value.expected) == ["24"]
        assert numbers(caught.value.found) == found
    with refuses(InputError, found="[5, 3, 4, 6]"):
        tiles_of(drawn(5, 3), 3, 8)
    with refuses(InputError, found="'zz000000'"):
        Tiles((1, 2, 2), 2, ("zz000000",)).decode(torch.zeros(1, 1, dtype=torch.long))


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)
FOUR = Palette((RED, GREEN, BLUE, WHITE), 2, 3)


def test_palette_codes_are_row_major_and_invertible(monkeypatch: pytest.MonkeyPatch) -> None:
    one = torch.tensor([[[RED, GREEN, BLUE], [WHITE, WHITE, GREEN]]], dtype=torch.uint8).movedim(-1, 1)
    assert FOUR.encode(one).tolist() == [[0, 1, 2, 3, 3, 1]]
    assert torch.equal(FOUR.decode(FOUR.encode(one)), one)
    assert (FOUR.codebook_size, FOUR.grid, FOUR.module) == (4, (2, 3), None)
    codes = Rng(0).stream("codes").randint(4, (50, 6))
    assert torch.equal(FOUR.encode(FOUR.decode(codes)), codes)
    monkeypatch.setattr(tiles, "CHUNK", 7)
    assert torch.equal(FOUR.encode(FOUR.decode(codes)), codes)


def test_unknown_colours_take_the_nearest_code() -> None:
    grays = Palette(((0,), (100,), (255,)), 1, 4)
    assert grays.encode(torch.tensor([[[[49, 50, 177, 178]]]], dtype=torch.uint8)).tolist() == [[0, 0, 1, 2]]
    near = torch.tensor([[[[250]], [[10]], [[20]]]], dtype=torch.uint8)  # differences of bytes must not wrap
    assert Palette((BLUE, WHITE, RED), 1, 1).encode(near).tolist() == [[2]]


def test_palette_of_images() -> None:
    codes = torch.tensor([[3, 3, 3, 1, 1, 0]])
    found = palette_of(FOUR.decode(codes), 3)
    assert found == Palette((WHITE, GREEN, RED), 2, 3)
    assert torch.equal(found.decode(found.encode(FOUR.decode(codes))), FOUR.decode(codes))
    with refuses(InputError) as caught:
        palette_of(FOUR.decode(codes), 2)
    assert (numbers(caught.value.expected), numbers(caught.value.found)) == (["2"], ["3"])


def test_records_and_names() -> None:
    codes = tiles_of(drawn(5, 3), 2, 3)
    for tokenizer in (codes, FOUR):
        assert from_dict(ImageTokenizer, json.loads(json.dumps(to_dict(tokenizer)))) == tokenizer
    assert codes.name != tiles_of(drawn(5, 3, seed=2), 2, 3).name
    assert FOUR.name == Palette(FOUR.colours, 8, 8).name
    assert FOUR.name != Palette((GREEN, RED, BLUE, WHITE), 2, 3).name


@pytest.mark.parametrize("colours", [(), (RED, (0,)), ((256,),), (RED, RED)])
def test_invalid_palettes_are_refused(colours: tuple) -> None:
    with refuses(InputError):
        Palette(colours, 2, 2)


def test_images_and_codes_of_other_shapes_are_refused() -> None:
    with refuses(InputError) as caught:
        FOUR.encode(torch.zeros(1, 3, 3, 2, dtype=torch.uint8))
    assert numbers(caught.value.found) == ["3", "3", "2"]
    with refuses(InputError) as caught:
        FOUR.decode(torch.full((1, 6), 4))
    assert numbers(caught.value.found) == ["6", "6"]
