"""Documents on disk, and the demonstration that is made of them."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.data.examples.creatures import render_creature
from feller.data.examples.instructions import demonstration
from feller.data.examples.scenes import render
from feller.data.examples.shapes import BLACK, COLOURS, LIGHT
from feller.data.examples.write_documents import Answer, Break, Picture, Written, write_documents, write_pairs

RED, BLUE = (np.full((16, 16, 3), colour, dtype=np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))


def test_pairs_of_files(tmp_path: pathlib.Path) -> None:
    write_pairs([Written(("a red ground", Picture(RED))), Written(("ein blauer Grund, ü", Picture(BLUE)))], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001.png", "0001.txt", "0002.png", "0002.txt"]
    assert (tmp_path / "0002.txt").read_text("utf-8") == "ein blauer Grund, ü\n"
    assert (np.asarray(Image.open(tmp_path / "0002.png")) == BLUE).all()
    with pytest.raises(InputError, match="not empty; name a new folder"):
        write_pairs([], tmp_path)
    with pytest.raises(InputError, match="not empty"):
        write_documents([], tmp_path / "0001.txt")


@pytest.mark.parametrize(
    "items", [("no picture",), (Picture(RED), Picture(BLUE), "two"), ("a", Break(), "b", Picture(RED))]
)
def test_only_pairs_are_written_as_pairs(items: tuple[object, ...], tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="one text and one picture, got document 0001"):
        write_pairs([Written(items)], tmp_path / "new")


def test_lines_of_documents(tmp_path: pathlib.Path) -> None:
    documents = [
        Written(("Question: what? Answer: ", Answer("rot"), ".", Picture(RED)), "question"),
        Written((Picture(RED), "one", Break(), "two – 2", Picture(BLUE))),
    ]
    write_documents(documents, tmp_path / "deep" / "new")
    lines = (tmp_path / "deep" / "new" / "documents.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "document": ["Question: what? Answer: ", {"answer": "rot"}, ".", {"image": "pictures/0001-1.png"}],
            "task": "question",
        },
        {
            "document": [
                {"image": "pictures/0002-1.png"},
                "one",
                {"break": True},
                "two – 2",
                {"image": "pictures/0002-2.png"},
            ]
        },
    ]
    for file, picture in (("0001-1", RED), ("0002-1", RED), ("0002-2", BLUE)):
        assert (np.asarray(Image.open(tmp_path / "deep" / "new" / "pictures" / f"{file}.png")) == picture).all()
    assert documents[0].text() == "Question: what? Answer: rot."
    assert documents[1].text() == "one\ntwo – 2"


def test_the_demonstration_keeps_the_tail_apart() -> None:
    made = demonstration(200, Draws(0), 16)
    assert {name: len(documents) for name, documents in made.documents.items()} == {
        "pairs": 200,
        "instructions": 200,
        "memory": 8,
        "tail": 4,
        "pairs-held-out": 20,
        "instructions-held-out": 20,
    }
    assert (len(made.head), len(made.tail)) == (25, 2)
    texts = {name: [document.text() for document in documents] for name, documents in made.documents.items()}
    for creature in made.tail:
        told = {name: [text for text in found if creature.name in text.split()] for name, found in texts.items()}
        assert not any(told[name] for name in told if name not in ("memory", "tail"))
        assert (len(told["memory"]), len(told["tail"])) == (4, 2)
        assert not set(told["memory"]) & set(told["tail"])
    for creature in made.head:
        assert len([text for text in texts["pairs"] if creature.name in text.split()]) == 4
    for document, view in zip(made.documents["tail"], made.asked, strict=True):
        assert view.creature in made.tail
        assert (document.pictures()[0] == render_creature(view, 16)).all()
    assert texts["tail"] == [view.caption() for view in made.asked]
    for part, scenes in made.scenes.items():
        whole = len(made.documents[part]) // 8 * 8
        pairs = [one for i, one in enumerate(made.documents[part]) if i % 8 < 3 or i >= whole]
        for pair, scene in zip(pairs, scenes, strict=True):
            assert (pair.pictures()[0] == render(scene, 16)).all()


def test_the_demonstration_depends_on_the_seed_alone() -> None:
    first, again, other = (demonstration(24, Draws(seed), 16).documents for seed in (0, 0, 1))
    for name, documents in first.items():
        assert [one.text() for one in documents] == [one.text() for one in again[name]]
        assert [one.text() for one in documents] != [one.text() for one in other[name]]
        for one, same in zip(documents, again[name], strict=True):
            assert all((a == b).all() for a, b in zip(one.pictures(), same.pictures(), strict=True))


@pytest.mark.parametrize("n", [20, 39, 41, 99])
def test_any_number_of_pairs(n: int) -> None:
    made = demonstration(n, Draws(0), 16)
    assert len(made.documents["pairs"]) == len(made.scenes["pairs"]) + 5 * (n // 8) == n
    assert made.tail


def test_twelve_colours_are_enough_for_all_pictures() -> None:
    made = demonstration(40, Draws(0), 16)
    pictures = [one for documents in made.documents.values() for document in documents for one in document.pictures()]
    found = {tuple(colour) for picture in pictures for colour in picture.reshape(-1, 3).tolist()}
    assert found == {*COLOURS.values(), BLACK, LIGHT}


def test_too_few_pairs() -> None:
    with pytest.raises(UsageError, match="20 pairs or more, got 19"):
        demonstration(19, Draws(0))
