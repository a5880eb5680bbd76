"""Emoji from a small folder like that of the packages."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.data.examples.emoji import emoji_pairs, plain, read_emoji, write_emoji
from feller.data.examples.shapes import Picks

LIST: list[dict[str, Any]] = [
    {"name": "FISH", "unified": "1F41F", "image": "1f41f.png", "category": "Animals", "has_img_twitter": True},
    {"name": "HEAVY SUN", "unified": "2600-FE0F", "image": "2600-fe0f.png", "category": "S", "has_img_twitter": True},
    {"name": "GHOST", "unified": "1F47B", "image": "1f47b.png", "category": "S", "has_img_twitter": False},
    {"name": "TONE", "unified": "1F3FB", "image": "1f3fb.png", "category": "Component", "has_img_twitter": True},
]
LABELS = [
    {"hexcode": "2600", "label": "Sun", "tags": ["bright", "Rays", "sun"]},
    {"hexcode": "1F41F", "label": "fish", "tags": ["fish"]},
]


@pytest.fixture
def modules(tmp_path: pathlib.Path) -> pathlib.Path:
    pictures = tmp_path / "emoji-datasource-twitter" / "img" / "twitter" / "64"
    labels = tmp_path / "emojibase-data" / "en"
    pictures.mkdir(parents=True)
    labels.mkdir(parents=True)
    (tmp_path / "emoji-datasource-twitter" / "emoji.json").write_text(json.dumps(LIST))
    (labels / "data.json").write_text(json.dumps(LABELS))
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(pictures / "1f41f.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 51)).save(pictures / "2600-fe0f.png")
    return tmp_path


def test_pictures_lie_on_white_and_lists_are_joined(modules: pathlib.Path) -> None:
    fish, sun = read_emoji(modules / "emoji-datasource-twitter", modules / "emojibase-data", 32)
    assert (fish.code, fish.name, fish.tags) == ("1F41F", "fish", ())
    assert (sun.code, sun.name, sun.tags) == ("2600", "sun", ("bright", "rays"))
    assert fish.picture.shape == sun.picture.shape == (32, 32, 3)
    assert (fish.picture == 255).all()
    assert (sun.picture == [255, 204, 204]).all()
    assert [one.name for one in read_emoji(modules / "emoji-datasource-twitter")] == ["fish", "heavy sun"]


def test_captions(modules: pathlib.Path) -> None:
    fish, sun = read_emoji(modules / "emoji-datasource-twitter", modules / "emojibase-data", 8)
    assert fish.caption(Picks([])) == "fish"
    assert sun.caption(Picks([0.9])) == "sun"
    assert sun.caption(Picks([0.1, 0.1, 0.1])) == "sun, bright, rays"
    pairs = emoji_pairs([fish, sun], Draws(0))
    assert pairs[0].text() == "fish"
    assert (pairs[1].pictures()[0] == sun.picture).all()


def test_code_points() -> None:
    assert plain("0023-fe0f-20e3") == plain("0023-20E3") == "0023-20E3"
    assert plain("fe0f") == ""


def test_files(modules: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "new"
    assert write_emoji(modules, out, 0, 16) == {"out": str(out), "emoji": 2, "with_tags": 1}
    assert (out / "0001.txt").read_text() == "fish\n"
    assert np.asarray(Image.open(out / "0002.png")).shape == (16, 16, 3)
    (modules / "emojibase-data" / "en" / "data.json").unlink()
    with pytest.raises(InputError, match=r"data\.json cannot be read"):
        write_emoji(modules, tmp_path / "other", 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ("{}", "no list of emoji"),
        ('[{"name": null, "unified": "1F41F", "image": "a.png"}]', "no list of emoji"),
        ("[]", "lists no emoji"),
    ],
)
def test_damaged_lists(content: str, said: str, modules: pathlib.Path) -> None:
    (modules / "emoji-datasource-twitter" / "emoji.json").write_text(content)
    with pytest.raises(InputError, match=said):
        read_emoji(modules / "emoji-datasource-twitter")


def test_pictures_that_are_not_there(modules: pathlib.Path) -> None:
    (modules / "emoji-datasource-twitter" / "img" / "twitter" / "64" / "1f41f.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 pictures cannot be read.*1f41f\.png"):
        read_emoji(modules / "emoji-datasource-twitter")
    with pytest.raises(UsageError, match="got 0"):
        read_emoji(modules / "emoji-datasource-twitter", side=0)
