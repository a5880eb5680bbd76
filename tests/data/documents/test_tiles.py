"""Pictures of tiles that recur, and of few colours, as codes and back."""

import json

import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.documents import tiles
from feller.data.documents.image_tokenizers import ImageTokenizer
from feller.data.documents.tiles import Palette, Tiles, palette_of, tiles_of, tiles_or_none
from tests.errors import refuses


def drawn(n: int, few: int, seed: int = 0) -> torch.Tensor:
    """Return pictures [n, 3, 4, 6] of some tiles of 2 x 2 pixels."""
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.randint(0, 256, (few, 3, 2, 2), generator=generator, dtype=torch.uint8)
    which = torch.randint(0, few, (n, 2, 3), generator=generator)
    return tiles[which].permute(0, 3, 1, 4, 2, 5).reshape(n, 3, 4, 6)


def test_pictures_of_known_tiles_come_back() -> None:
    pictures = drawn(20, 5)
    codes = tiles_of(pictures, 2, 8)
    assert (codes.codebook_size, codes.grid, codes.shape) == (5, (2, 3), (3, 4, 6))
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
    assert tiles_or_none(pictures, 2, 5) == tiles_of(pictures, 2, 8)
    assert tiles_or_none(pictures, 2, 4) is None
    assert tiles_or_none(pictures[:2], 2, 8) is None  # 12 tiles, and less than 4 of each
    noise = torch.randint(0, 256, (20, 3, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert tiles_or_none(noise, 2, 1024) is None
    assert tiles_or_none(pictures, 4, 8) is None  # 6 pixels across
    assert tiles_or_none(pictures[:0], 2, 8) is None


def test_records_and_limits() -> None:
    codes = tiles_of(drawn(5, 3), 2, 3)
    assert from_dict(ImageTokenizer, json.loads(json.dumps(to_dict(codes)))) == codes
    assert codes.name != tiles_of(drawn(5, 3, seed=2), 2, 3).name
    with pytest.raises(InputError, match="divisible by the tile side 4"):
        Tiles((3, 4, 6), 4, codes.tiles)
    with pytest.raises(InputError, match="2 tiles, 1 of them distinct"):
        Tiles((3, 4, 6), 2, (codes.tiles[0], codes.tiles[0]))
    with refuses(InputError, found="[5, 3, 4, 6]"):
        tiles_of(drawn(5, 3), 3, 8)
    with refuses(InputError, found="'zz000000'"):
        Tiles((1, 2, 2), 2, ("zz000000",)).decode(torch.zeros(1, 1, dtype=torch.long))


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)
FOUR = Palette((RED, GREEN, BLUE, WHITE), 2, 3)


def test_codes_stand_row_by_row() -> None:
    one = torch.tensor([[[RED, GREEN, BLUE], [WHITE, WHITE, GREEN]]], dtype=torch.uint8).movedim(-1, 1)
    assert FOUR.encode(one).tolist() == [[0, 1, 2, 3, 3, 1]]
    assert torch.equal(FOUR.decode(FOUR.encode(one)), one)
    assert (FOUR.codebook_size, FOUR.grid, FOUR.module) == (4, (2, 3), None)


def test_pictures_of_its_colours_come_back_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = Rng(0).stream("codes").randint(4, (50, 6))
    assert torch.equal(FOUR.encode(FOUR.decode(codes)), codes)
    monkeypatch.setattr(tiles, "CHUNK", 7)
    assert torch.equal(FOUR.encode(FOUR.decode(codes)), codes)


def test_other_colours_go_to_the_nearest() -> None:
    grays = Palette(((0,), (100,), (255,)), 1, 4)
    assert grays.encode(torch.tensor([[[[49, 50, 177, 178]]]], dtype=torch.uint8)).tolist() == [[0, 0, 1, 2]]
    near = torch.tensor([[[[250]], [[10]], [[20]]]], dtype=torch.uint8)  # differences of bytes must not wrap
    assert Palette((BLUE, WHITE, RED), 1, 1).encode(near).tolist() == [[2]]


def test_the_colours_of_pictures_are_found() -> None:
    codes = torch.tensor([[3, 3, 3, 1, 1, 0]])
    found = palette_of(FOUR.decode(codes), 3)
    assert found == Palette((WHITE, GREEN, RED), 2, 3)
    assert torch.equal(found.decode(found.encode(FOUR.decode(codes))), FOUR.decode(codes))
    with pytest.raises(InputError, match="at most 2 colours; found 3"):
        palette_of(FOUR.decode(codes), 2)


def test_records_and_names() -> None:
    assert from_dict(ImageTokenizer, json.loads(json.dumps(to_dict(FOUR)))) == FOUR
    assert FOUR.name == Palette(FOUR.colours, 8, 8).name
    assert FOUR.name != Palette((GREEN, RED, BLUE, WHITE), 2, 3).name


@pytest.mark.parametrize(
    ("colours", "told"),
    [
        ((), "one level"),
        ((RED, (0,)), "one level"),
        (((256,),), "from 0 to 255"),
        ((RED, RED), "expected distinct colours"),
    ],
)
def test_what_is_no_palette_is_refused(colours: tuple, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Palette(colours, 2, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="expected images of 3 channels, 2 x 3; found 3 channels, 3 x 2"):
        FOUR.encode(torch.zeros(1, 3, 3, 2, dtype=torch.uint8))
    with pytest.raises(InputError, match="6 codes per image, from 0 to 3; found 6 per image, 6 of all codes outside"):
        FOUR.decode(torch.full((1, 6), 4))
