"""Pictures of few colours as codes, and back."""

import json

import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.core.serialization import from_data, to_data
from feller.data.documents import tiles
from feller.data.documents.image_codes import PictureCodes
from feller.data.documents.tiles import Palette, palette_of

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)
FOUR = Palette((RED, GREEN, BLUE, WHITE), 2, 3)


def test_codes_stand_row_by_row() -> None:
    one = torch.tensor([[[RED, GREEN, BLUE], [WHITE, WHITE, GREEN]]], dtype=torch.uint8).movedim(-1, 1)
    assert FOUR.encode(one).tolist() == [[0, 1, 2, 3, 3, 1]]
    assert torch.equal(FOUR.decode(FOUR.encode(one)), one)
    assert (FOUR.count, FOUR.grid, FOUR.module) == (4, (2, 3), None)


def test_pictures_of_its_colours_come_back_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = Draws(0).at("codes").integers(4, (50, 6))
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
    with pytest.raises(InputError, match="of 2 colours at most, got 3"):
        palette_of(FOUR.decode(codes), 2)


def test_records_and_names() -> None:
    assert from_data(PictureCodes, json.loads(json.dumps(to_data(FOUR)))) == FOUR
    assert FOUR.name == Palette(FOUR.colours, 8, 8).name
    assert FOUR.name != Palette((GREEN, RED, BLUE, WHITE), 2, 3).name


@pytest.mark.parametrize(
    ("colours", "told"),
    [
        ((), "as many levels"),
        ((RED, (0,)), "as many levels"),
        (((256,),), "from 0 to 255"),
        ((RED, RED), "expected different colours"),
    ],
)
def test_what_is_no_palette_is_refused(colours: tuple, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Palette(colours, 2, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="expected pictures of 3 channels, 2 x 3, got 3 channels, 3 x 2"):
        FOUR.encode(torch.zeros(1, 3, 3, 2, dtype=torch.uint8))
    with pytest.raises(InputError, match="expected 6 codes of a picture, from 0 to 3, got 6 and 6 of them are not"):
        FOUR.decode(torch.full((1, 6), 4))
