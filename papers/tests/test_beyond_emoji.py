"""Documents of emoji: pictures, split, judge, decoder and claims, with made-up packages."""

import json
import pathlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.commands.reproduce import UNTESTABLE
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.networks.image.classifier import ImageClassifier
from feller.networks.sequence.patch_positions import PlannedHoles
from feller_papers.beyond import EMOJI_TESTS, beyond
from feller_papers.beyond.emoji import right_names
from feller_papers.beyond.emoji_judge import EmojiJudge, draw_candidates
from feller_papers.beyond.emoji_models import emoji_decoder
from feller_papers.beyond.emoji_pictures import NAMES, PICTURES, draw_emoji, emoji_documents, read_emoji
from feller_papers.beyond.emoji_setting import EmojiSetting
from feller_papers.beyond.emoji_world import emoji_data

COLOURS = ("red", "green", "blue", "orange", "purple", "black", "brown", "pink", "grey", "cyan", "gold", "navy")
PLAIN = [0.0, 0.9, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]
"""Uniform numbers of the plain picture in full size."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder with two packages of twelve coloured squares, a flag, and a square without a name."""
    root = tmp_path_factory.mktemp("emoji")
    images = root / PICTURES / "img" / "twitter" / "64"
    images.mkdir(parents=True)
    (root / NAMES / "en").mkdir(parents=True)
    pictures, names = [], []
    for i, colour in enumerate((*COLOURS, "flag", "nameless")):
        code = f"1F{i:03X}"
        for file in (f"{code}.png", f"{code}-tone.png"):
            image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
            image.paste("white" if "tone" in file else colour if i < 12 else "red", (0, 0, 32, 64))
            image.save(images / file)
        tones = {"1F3FB": {"image": f"{code}-tone.png", "has_img_twitter": True}} if i == 1 else {}
        pictures.append(
            {
                "unified": code,
                "non_qualified": None,
                "image": f"{code}.png",
                "sort_order": i,
                "has_img_twitter": True,
                "skin_variations": tones,
            }
        )
        if colour != "nameless":
            tags = ["Square", colour, f"word{i}", "paint", "shape"]
            group = 9 if colour == "flag" else 8 if i == 2 else 0
            names.append({"hexcode": code, "label": f"{colour.title()} square", "tags": tags, "group": group})
    (root / PICTURES / "emoji.json").write_text(json.dumps(pictures))
    (root / NAMES / "en" / "data.json").write_text(json.dumps(names))
    return root


@pytest.fixture(scope="module")
def tiny(folder: pathlib.Path) -> EmojiSetting:
    return EmojiSetting(
        folder=folder,
        seeds=(0,),
        side=16,
        num_emoji=12,
        num_variants=3,
        tokenizer_steps=2,
        retriever_steps=2,
        judge_steps=30,
        size=1,
        steps=2,
        num_test=4,
        guidance_weights=(1.0, 2.0),
    )


def test_packages_are_joined_by_code(folder: pathlib.Path) -> None:
    emoji = read_emoji(folder, 100)
    assert [each.name for each in emoji] == [f"{colour} square" for colour in COLOURS]
    assert emoji[3].keywords == ("word3", "paint", "shape")
    assert [len(each.files) for each in emoji] == [1, 2, *[1] * 10]
    assert [each.is_mirrored for each in emoji] == [True, True, False, *[True] * 9]
    assert [each.name for each in read_emoji(folder, 3)] == ["red square", "brown square", "navy square"]


def test_drawn_pictures(folder: pathlib.Path) -> None:
    """The left half is coloured; mirrored it is the right half, except for symbols."""
    red, green, blue = read_emoji(folder, 100)[:3]
    plain = draw_emoji(red, PLAIN, 16)
    assert plain.shape == (16, 16, 3)
    assert (plain[:, :5] == [255, 0, 0]).all()  # the filter reaches three pixels
    assert (plain[:, 11:] == 255).all()
    mirrored = [PLAIN[0], 0.1, *PLAIN[2:]]
    assert np.array_equal(draw_emoji(red, mirrored, 16), plain[:, ::-1])
    assert np.array_equal(draw_emoji(blue, mirrored, 16), draw_emoji(blue, PLAIN, 16))
    assert (draw_emoji(green, [0.9, *PLAIN[1:]], 16) == 255).all()  # the second tone is white
    small = draw_emoji(red, [*PLAIN[:2], 0.0, *PLAIN[3:]], 16)
    assert (small[0] == 255).all()
    darker = draw_emoji(red, [*PLAIN[:5], 0.0, 0.5, 0.5], 16)
    assert darker[8, 1].tolist() == [round(255 * 0.88), 0, 0]


def test_documents_depend_on_the_seed_only(folder: pathlib.Path) -> None:
    emoji = read_emoji(folder, 100)[5]
    first, again, other = (emoji_documents(emoji, 4, 16, Rng(seed)) for seed in (0, 0, 1))
    more = emoji_documents(emoji, 6, 16, Rng(0))
    for a, b, c in zip(first, again, more, strict=False):
        assert a.text() == b.text() == c.text()
        assert np.array_equal(a.pictures()[0], b.pictures()[0])
        assert np.array_equal(a.pictures()[0], c.pictures()[0])
    assert any(not np.array_equal(a.pictures()[0], b.pictures()[0]) for a, b in zip(first, other, strict=True))
    for document in first:
        name, _, words = document.text().partition(": ")
        assert name == "black square"
        assert sorted(words.split(", ")) == ["paint", "shape", "word5"]


def test_missing_packages(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError) as caught:
        read_emoji(tmp_path, 3)
    assert caught.value.file == str(tmp_path / PICTURES / "emoji.json")
    claims = list(beyond(True, tmp_path))
    assert [claim.verdict for claim in claims] == [UNTESTABLE] * len(EMOJI_TESTS)
    with pytest.raises(InputError):
        emoji_data.__wrapped__(EmojiSetting(), 0)


def test_held_out_pictures_are_in_no_training_document(tiny: EmojiSetting) -> None:
    """Neither is a picture of the judge; every held-out emoji has training documents in the memory."""
    data = emoji_data(tiny, 0)
    train = {picture.numpy().tobytes() for picture in data.pairs.values["pictures"].flatten(0, 1)}
    assert len(data.pairs) == 36
    assert data.test.pictures.shape == (4, 3, 16, 16)
    assert not train & {picture.numpy().tobytes() for picture in data.test.pictures}
    assert len(data.retrieval_index.datastore) == 36
    assert data.labels.tolist() == [0, 4, 7, 11]
    names = {text.partition(":")[0] for text in data.captions}
    assert {text.partition(":")[0] for text in data.test.captions} < names


def test_candidates_have_the_label_and_differ() -> None:
    """Other names are uniform: over 2,000 draws, each of 19 occurs 9 / 19 of the time; 6 standard errors are 0.067."""
    candidates = draw_candidates([3] * 2000, 20, Rng(0))
    assert candidates.shape == (2000, 10)
    assert (candidates == 3).sum(1).eq(1).all()
    assert (candidates.diff(dim=1) > 0).all()
    shares = torch.stack([(candidates == i).any(1).double().mean() for i in range(20) if i != 3])
    assert (shares - 9 / 19).abs().max() < 0.067
    assert draw_candidates([0, 1], 3, Rng(0)).tolist() == [[0, 1, 2]] * 2
    with pytest.raises(InputError):
        draw_candidates([0], 1, Rng(0))


def test_judge_chooses_the_likeliest_candidate() -> None:
    network = ImageClassifier((3, 16, 16), 20, Rng(0)).eval()
    pictures = Rng(1).stream("x").randint(256, (50, 3, 16, 16)).to(torch.uint8)
    candidates = draw_candidates([0] * 50, 20, Rng(2))
    chosen = EmojiJudge(network).choose(pictures, candidates)
    with torch.no_grad():
        logits = network(pictures.float() / 127.5 - 1)
    for row, options, choice in zip(logits.tolist(), candidates.tolist(), chosen.tolist(), strict=True):
        assert choice == max(options, key=row.__getitem__)


@pytest.mark.slow
def test_judge_learns_colours(tiny: EmojiSetting) -> None:
    data = emoji_data(replace(tiny, judge_steps=300, num_test=12), 0)
    assert data.accuracy(data.test.pictures) >= 0.9
    assert data.judge.accuracy(data.test.pictures, data.labels.roll(1), data.candidates) <= 0.2


def test_decoder_plans_holes(tiny: EmojiSetting) -> None:
    network = emoji_decoder(tiny, 0)
    assert network.patch_positions is not None
    assert network.patch_positions.holes == PlannedHoles()
    assert network.context == emoji_data(tiny, 0).modality.context


def test_claims_of_a_tiny_budget(tiny: EmojiSetting) -> None:
    """Every claim has a verdict; shares of right names have one entry for each way of decoding."""
    claims = [claim for test in EMOJI_TESTS for claim in test(tiny)]
    assert len(claims) == 6
    assert UNTESTABLE not in {claim.verdict for claim in claims}
    shares = right_names(tiny, 0)
    assert [*shares] == ["1", "2", "plain", "contrast"]
    assert all(0 <= share <= 1 for share in shares.values())
