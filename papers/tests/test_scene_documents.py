"""Tests of the example documents of feller."""

import json
import pathlib

import numpy as np
import pytest

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller_papers.scenes.creatures import render_creature
from feller_papers.scenes.documents import Answer, Break, Document, Picture
from feller_papers.scenes.drawing import render
from feller_papers.scenes.instructions import demonstration
from feller_papers.scenes.pack import pack
from feller_papers.scenes.shapes import BLACK, COLOURS, LIGHT

RED = np.full((16, 16, 3), (255, 0, 0), dtype=np.uint8)


def test_texts_of_documents() -> None:
    document = Document(("Question: what? Answer: ", Answer("rot"), ".", Picture(RED)), "question")
    assert document.text() == "Question: what? Answer: rot."
    assert Document((Picture(RED), "one", Break(), "two")).text() == "one\ntwo"


def test_a_packed_demonstration_holds_all_documents(tmp_path: pathlib.Path) -> None:
    pack(tmp_path / "scenes.npz", 24)
    arrays = np.load(tmp_path / "scenes.npz")
    pictures = arrays["palette"][arrays["pixels"]]
    records = [json.loads(line) for line in arrays["documents"].tobytes().decode().splitlines()]
    demo = demonstration(24, Rng(0).fold_in("demonstration"))
    documents = [(folder, item) for folder, group in demo.documents.items() for item in group]
    for record, (folder, document) in zip(records, documents, strict=True):
        assert record["folder"] == folder
        named = [item["image"] for item in record["document"] if isinstance(item, dict) and "image" in item]
        assert (pictures[named] == np.stack(document.pictures())).all()
        texts = [item for item in document.items if isinstance(item, str)]
        assert [item for item in record["document"] if isinstance(item, str)] == texts
    assert {item["creature"] for item in records if item["folder"] == "memory"} == {item.name for item in demo.tail}


def test_tail_is_only_in_memory_and_tail() -> None:
    demo = demonstration(200, Rng(0), 16)
    assert {name: len(documents) for name, documents in demo.documents.items()} == {
        "pairs": 200,
        "instructions": 200,
        "memory": 8,
        "tail": 4,
        "pairs-held-out": 20,
        "instructions-held-out": 20,
    }
    assert (len(demo.head), len(demo.tail)) == (25, 2)
    texts = {name: [document.text() for document in documents] for name, documents in demo.documents.items()}
    for creature in demo.tail:
        mentions = {
            name: [text for text in folder_texts if creature.name in text.split()]
            for name, folder_texts in texts.items()
        }
        assert not any(mentions[name] for name in mentions if name not in ("memory", "tail"))
        assert (len(mentions["memory"]), len(mentions["tail"])) == (4, 2)
        assert not set(mentions["memory"]) & set(mentions["tail"])
    for creature in demo.head:
        assert len([text for text in texts["pairs"] if creature.name in text.split()]) == 4
    for document, view in zip(demo.documents["tail"], demo.tail_views, strict=True):
        assert view.creature in demo.tail
        assert (document.pictures()[0] == render_creature(view, 16)).all()
    assert texts["tail"] == [view.caption() for view in demo.tail_views]
    for part, scenes in demo.scenes.items():
        whole = len(demo.documents[part]) // 8 * 8
        pairs = [document for i, document in enumerate(demo.documents[part]) if i % 8 < 3 or i >= whole]
        for pair, scene in zip(pairs, scenes, strict=True):
            assert (pair.pictures()[0] == render(scene, 16)).all()


def test_the_demonstration_depends_on_the_seed_alone() -> None:
    first, again, other = (demonstration(24, Rng(seed), 16).documents for seed in (0, 0, 1))
    for name, documents in first.items():
        assert [document.text() for document in documents] == [document.text() for document in again[name]]
        assert [document.text() for document in documents] != [document.text() for document in other[name]]
        for document, same in zip(documents, again[name], strict=True):
            assert all((a == b).all() for a, b in zip(document.pictures(), same.pictures(), strict=True))


@pytest.mark.parametrize("n", [20, 39, 41, 99])
def test_any_number_of_pairs(n: int) -> None:
    demo = demonstration(n, Rng(0), 16)
    assert len(demo.documents["pairs"]) == len(demo.scenes["pairs"]) + 5 * (n // 8) == n
    assert demo.tail


def test_twelve_colours_are_enough_for_all_pictures() -> None:
    demo = demonstration(40, Rng(0), 16)
    pictures = [
        picture for documents in demo.documents.values() for document in documents for picture in document.pictures()
    ]
    colours = {tuple(colour) for picture in pictures for colour in picture.reshape(-1, 3).tolist()}
    assert colours == {*COLOURS.values(), BLACK, LIGHT}


def test_too_few_pairs() -> None:
    with pytest.raises(UsageError, match="20 pairs or more; found 19"):
        demonstration(19, Rng(0))
