"""Documents in files: read as they are meant, or refused in words."""

import gzip
import json
import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.data.documents.modality import Documents
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import BreakItem, ImageItem, TextItem
from tests.data.documents.written import lines, pairs, square
from tests.errors import refuses


def test_a_folder_of_pictures_and_captions(tmp_path: pathlib.Path) -> None:
    data = read(str(pairs(tmp_path / "pairs")))
    assert isinstance(data.modality, Documents)
    assert len(data) == 12
    assert data.modality.items(data.values)[1] == [TextItem("a green square"), ImageItem(0)]
    assert data.values["pictures"].shape == (12, 1, 3, 8, 8)
    assert int(data.values["pictures"][1, 0, 1].max()) == 255


def test_pictures_alone_stay_pictures(tmp_path: pathlib.Path) -> None:
    for i in range(3):
        square(tmp_path, f"{i}.png", i)
    (tmp_path / "readme.txt").write_text("about these pictures")
    assert isinstance(read(str(tmp_path)).modality, Images)


def test_folders_of_pairs_inside_are_named(tmp_path: pathlib.Path) -> None:
    """Texts would be dropped without a word if folders inside were taken as classes."""
    pairs(tmp_path / "many")
    (tmp_path / "few").mkdir()
    square(tmp_path / "few", "1.png", 0)
    (tmp_path / "few" / "1.txt").write_text("a square")
    square(tmp_path, "overview.png", 0)
    with pytest.raises(InputError, match=r"Give one subfolder, such as .*many"):
        read(str(tmp_path))


def test_pairs_in_a_hidden_folder_are_not_seen(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path / ".hidden")
    for i in range(6):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        square(tmp_path / "ab"[i % 2], f"{i}.png", 0)
    assert isinstance(read(str(tmp_path)).modality, Images)


@pytest.mark.parametrize(
    ("extra", "words"), [("lonely.txt", "1 of 13 captions have no image"), ("bare.png", "1 of 13 images have no")]
)
def test_what_stands_alone_is_named(tmp_path: pathlib.Path, extra: str, words: str) -> None:
    pairs(tmp_path)
    (tmp_path / extra).write_text("a word") if extra.endswith("txt") else square(tmp_path, extra, 0)
    with pytest.raises(InputError, match=f"{words}.*{extra}"):
        read(str(tmp_path))


@pytest.mark.parametrize("extra", ["003.jpg", "003.TXT"])
def test_two_of_one_name_are_refused(tmp_path: pathlib.Path, extra: str) -> None:
    pairs(tmp_path)
    (tmp_path / extra).write_text("a word") if extra.endswith("TXT") else square(tmp_path, extra, 0)
    with pytest.raises(InputError, match=r"found 003\.\w+ and 003\.\w+"):
        read(str(tmp_path))


def test_an_empty_caption_is_refused(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path)
    (tmp_path / "003.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"003\.txt.*caption is empty"):
        read(str(tmp_path))


def test_json_lines_interleave(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path)
    entries = [
        {"document": ["what? ", {"answer": "red"}, ".", {"image": "000.png"}], "task": "ask"},
        {"document": [{"image": "000.png"}, "make it green", {"image": "001.png"}], "task": "edit"},
        {"image": "002.png", "text": "a blue square", "task": "ask"},
        {"document": ["one", {"break": True}, "two", {"image": "002.png"}], "task": "edit"},
    ]
    data = read(str(lines(tmp_path, entries)))
    assert isinstance(data.modality, Documents)
    assert data.modality.tasks == ("ask", "edit")
    assert data.values["task"].tolist() == [0, 1, 0, 1]
    assert data.modality.items(data.values) == [
        [TextItem("what? "), TextItem("red", is_answer=True), TextItem("."), ImageItem(0)],
        [ImageItem(0), TextItem("make it green"), ImageItem(1)],
        [TextItem("a blue square"), ImageItem(0)],
        [TextItem("one"), BreakItem(), TextItem("two"), ImageItem(0)],
    ]
    assert torch.equal(data.values["pictures"][0, 0], data.values["pictures"][1, 0])


def test_packed_json_lines(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path)
    file = tmp_path / "d.jsonl.gz"
    entries = [{"image": f"{i:03}.png", "text": "a square"} for i in range(2)]
    file.write_bytes(gzip.compress("".join(json.dumps(entry) + "\n" for entry in entries).encode()))
    assert len(read(str(file))) == 2


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"document": ["a", {"image": "none.png"}]}, "line 2: expected the image .*no such file"),
        ({"document": ["a", {"image": "../out.png"}]}, "line 2: expected an image inside .* found '../out.png'"),
        ({"document": ["a", {"image": "/etc/passwd"}]}, "found '/etc/passwd'"),
        ({"document": ["a", {"image": "notes.md"}]}, "found the suffix '.md'"),
        ({"document": []}, "expected a list"),
        ({"document": "a text"}, "expected a list"),
        ({"document": [3]}, "expected a text, or an object"),
        ({"document": [{"answer": ""}]}, "expected a text, or an object"),
        ({"image": "000.png"}, r"'text' for the image .*Write its caption"),
        ({"document": ["a"], "text": "b", "image": "000.png"}, "alone, or 'image' and 'text'; found both"),
        ({"document": ["a \ud800"]}, "lone surrogate"),
        ({"document": ["a"], "task": 3}, "expected a string in 'task'"),
        ({"document": ["a"], "task": "edit"}, "a task on every line"),
        ("text", "expected an object"),
    ],
)
def test_wrong_lines_are_named(tmp_path: pathlib.Path, entry: object, words: str) -> None:
    pairs(tmp_path / "in")
    (tmp_path / "in" / "notes.md").write_text("x")
    square(tmp_path, "out.png", 0)
    first = {"document": ["a", {"image": "000.png"}]}
    with pytest.raises(InputError, match=words):
        read(str(lines(tmp_path / "in", [first, entry])))


def test_links_lead_nowhere_else(tmp_path: pathlib.Path) -> None:
    """One rule for folders and lines: a link may stand for a file of the same folder, and for no other."""
    folder = pairs(tmp_path / "in")
    secret = square(tmp_path, "secret.png", 1)
    (tmp_path / "secret.txt").write_text("a secret")
    (tmp_path / "linked").symlink_to(folder)
    entry = {"image": "link.png", "text": "a link"}
    (folder / "link.png").symlink_to(folder / "001.png")
    (folder / "link.txt").symlink_to("001.txt")
    for place in (folder, tmp_path / "linked"):
        data = read(str(place))
        assert data.modality.items(data.values)[-1] == [TextItem("a green square"), ImageItem(0)]
        assert len(read(str(lines(place, [entry, entry])))) == 2
    for name in ("png", "txt"):
        (folder / f"link.{name}").unlink()
        (folder / f"link.{name}").symlink_to(f"../secret.{name}")
        with pytest.raises(InputError, match=rf"'link\.{name}' is a link to a file outside"):
            read(str(folder))
        (folder / f"link.{name}").unlink()
        (folder / f"link.{name}").symlink_to(f"001.{name}")
    (folder / "deep").symlink_to(tmp_path)
    (folder / "link.png").unlink()
    (folder / "link.png").symlink_to(secret)
    for name in ("link.png", "deep/secret.png"):
        with pytest.raises(InputError, match=r"line 1: expected an image inside .*\. Move the image into this folder"):
            read(str(lines(folder, [{"image": name, "text": "a link"}])))


def arrays(*samples: object, **more: np.ndarray) -> dict[str, np.ndarray]:
    """Return two documents of at most two pictures, as a model writes them."""
    pictures = np.arange(2 * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 2, 4, 4, 3)
    said = samples or (["a ", {"answer": "b"}, {"image": "1.png"}, {"image": "0.png"}], ["c", {"image": "0.png"}])
    written = {"samples": np.array([json.dumps(one) for one in said]), "tokens": np.zeros((2, 9), np.int64)}
    return {**written, "pictures": pictures, **more}


def test_arrays_of_documents_are_read_as_documents(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "drawn.npz"
    np.savez(file, **arrays())
    for words in ({}, {"vocabulary": "characters"}):
        data = read(str(file), **words)
        assert isinstance(data.modality, Documents)
        assert data.modality.items(data.values) == [
            [TextItem("a "), TextItem("b", is_answer=True), ImageItem(0), ImageItem(1)],
            [TextItem("c"), ImageItem(0)],
        ]
        pictures = torch.from_numpy(arrays()["pictures"]).permute(0, 1, 4, 2, 3)
        assert torch.equal(data.values["pictures"][0], pictures[0].flip(0))
        assert torch.equal(data.values["pictures"][1, 0], pictures[1, 0])
    assert read(str(file), longest=8).values["pictures"].shape[-2:] == (8, 8)
    assert torch.equal(read(str(file), like=data.modality).values["rows"], data.values["rows"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (arrays(["a", {"image": "2.png"}], ["b"]), "document 1: .* found '2.png'"),
        (arrays(["a", {"image": "../0.png"}], ["b"]), "document 1: expected an image"),
        (arrays(["a"], "b"), "document 2: expected a list"),
        (arrays(["a"], ["b"]), "no document has an image"),
        (arrays(samples=np.array(["[" * 100_000, "a"])), "document 1: expected a JSON list"),
        (arrays(samples=np.array([["a"], ["b"]])), r"expected an array samples \[n\]"),
        (arrays(pictures=np.zeros((2, 2, 4, 4, 3))), "expected an array pictures"),
        (
            arrays(pictures=np.zeros((3, 2, 4, 4, 3), np.uint8)),
            r"expected an array pictures \[2, maximum number of images per document, h, w, 1 or 3\] of uint8",
        ),
        (arrays(pictures=np.zeros((2, 2, 4, 4), np.uint8)), "expected an array pictures"),
        (arrays(pictures=np.array([{}, {}])), "contains Python objects"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: pathlib.Path, changed: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "drawn.npz", **changed)
    with pytest.raises(InputError, match=words):
        read(str(tmp_path / "drawn.npz"))


def test_symbols_are_no_data(tmp_path: pathlib.Path) -> None:
    (tmp_path / "drawn.json").write_text(json.dumps({"tokens": [[1, 2]], "texts": ["a"], "symbols": {}}))
    with pytest.raises(InputError, match=r"drawn\.json: image tokens .*\.jsonl, \.npz"):
        read(str(tmp_path / "drawn.json"))
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InputError, match="file type is not recognised"):
        read(str(tmp_path / "other.json"))


def test_texts_alone_are_texts(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="no document has an image"):
        read(str(lines(tmp_path, [{"document": ["a"]}, {"document": ["b"]}])))


def test_pictures_of_other_sizes_are_brought_to_one(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path)
    square(tmp_path, "000.png", 0, side=20)
    data = read(str(tmp_path))
    assert data.values["pictures"].shape[-2:] == (8, 8)
    assert any("1 of 12 images were resized to 8x8" in note for note in data.notes)


def test_large_pictures_become_small(tmp_path: pathlib.Path) -> None:
    assert read(str(pairs(tmp_path, 3, side=100))).values["pictures"].shape[-2:] == (32, 32)
    for words in ({}, {"vocabulary": "characters"}):
        assert read(str(tmp_path), **words).values["pictures"].shape[-2:] == (32, 32)
        assert read(str(tmp_path), longest=48, **words).values["pictures"].shape[-2:] == (48, 48)


def test_other_documents_take_the_model_s_size_and_symbols(tmp_path: pathlib.Path) -> None:
    data = read(str(pairs(tmp_path / "a")), vocabulary="characters")
    pairs(tmp_path / "b", side=24)
    other = read(str(tmp_path / "b"), like=data.modality)
    assert other.values["pictures"].shape[-2:] == (8, 8)
    assert np.array_equal(other.values["rows"].numpy(), data.values["rows"].numpy())
    (tmp_path / "b" / "000.txt").write_text("a red ∆")
    with pytest.raises(InputError, match=r"000\.png.*characters of the vocabulary"):
        read(str(tmp_path / "b"), like=data.modality)


def test_pairs_in_folders_inside_are_read_too(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path, n=5)
    pairs(tmp_path / "more", n=3)
    (tmp_path / "small").mkdir()
    square(tmp_path / "small", "x.png", 1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "1.txt").write_text("a caption whose picture is elsewhere")
    data = read(str(tmp_path))
    assert len(data) == 8
    assert "folders inside where no picture has a caption (2): notes, small" in data.notes[0]
    (tmp_path / "more" / "001.txt").unlink()
    with pytest.raises(InputError, match=r"1 of 8 images have no caption, such as more/001\.png"):
        read(str(tmp_path))


def test_a_folder_with_a_file_of_documents(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        square(tmp_path / "pictures", f"{i}.png", i)
    file = lines(tmp_path, [{"document": ["a square", {"image": f"pictures/{i}.png"}]} for i in range(3)])
    inside, named = read(str(tmp_path)), read(str(file))
    assert inside.notes == named.notes
    assert all(torch.equal(inside.values[leaf], named.values[leaf]) for leaf in named.values)
    lines(tmp_path, [{"image": "pictures/0.png", "text": "a square"}], "other.jsonl")
    with refuses(InputError, found="2"):
        read(str(tmp_path))


def test_texts_in_a_folder_are_no_proteins(tmp_path: pathlib.Path) -> None:
    lines(tmp_path, [{"text": "a"}], "texts.jsonl")
    with pytest.raises(InputError, match=r"Give one file, such as .*texts\.jsonl"):
        read(str(tmp_path))
