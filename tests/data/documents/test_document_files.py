"""Documents of text and images in folders, JSON lines and arrays."""

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


def test_folder_of_images_and_captions(tmp_path: pathlib.Path) -> None:
    data = read(str(pairs(tmp_path / "pairs")))
    assert isinstance(data.modality, Documents)
    assert len(data) == 12
    assert data.modality.items(data.values)[1] == [TextItem("a green square"), ImageItem(0)]
    assert data.values["pictures"].shape == (12, 1, 3, 8, 8)
    assert int(data.values["pictures"][1, 0, 1].max()) == 255


def test_images_without_captions_are_images(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path / ".hidden")
    for i in range(6):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        square(tmp_path / "ab"[i % 2], f"{i}.png", 0)
    assert isinstance(read(str(tmp_path)).modality, Images)
    (tmp_path / "a" / "readme.txt").write_text("about these pictures")
    assert isinstance(read(str(tmp_path / "a")).modality, Images)


def test_pairs_in_subfolders_beside_images_are_refused(tmp_path: pathlib.Path) -> None:
    """Subfolders as classes would drop the captions silently."""
    pairs(tmp_path / "many")
    square(tmp_path, "overview.png", 0)
    with refuses(InputError, file=str(tmp_path)) as error:
        read(str(tmp_path))
    assert "many" in str(error.value.remedy)


@pytest.mark.parametrize("extra", ["lonely.txt", "bare.png", "003.jpg", "003.TXT"])
def test_unpaired_duplicate_and_empty_files_are_refused(tmp_path: pathlib.Path, extra: str) -> None:
    pairs(tmp_path)
    (tmp_path / extra).write_text("a word") if extra.lower().endswith("txt") else square(tmp_path, extra, 0)
    with refuses(InputError, file=str(tmp_path)) as error:
        read(str(tmp_path))
    assert extra in str(error.value)
    (tmp_path / extra).unlink()
    (tmp_path / "003.txt").write_text(" \n")
    with refuses(InputError, file=str(tmp_path / "003.txt")):
        read(str(tmp_path))


def test_interleaved_json_lines(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path)
    entries = [
        {"document": ["what? ", {"answer": "red"}, ".", {"image": "000.png"}], "task": "ask"},
        {"document": [{"image": "000.png"}, "make it green", {"image": "001.png"}], "task": "edit"},
        {"image": "002.png", "text": "a blue square", "task": "ask"},
        {"document": ["one", {"break": True}, "two", {"image": "002.png"}], "task": "edit"},
    ]
    data = read(str(lines(tmp_path, entries)))
    assert isinstance(data.modality, Documents)
    compressed = tmp_path / "d.jsonl.gz"
    compressed.write_bytes(gzip.compress((tmp_path / "documents.jsonl").read_bytes()))
    assert torch.equal(read(str(compressed)).values["rows"], data.values["rows"])
    assert data.modality.tasks == ("ask", "edit")
    assert data.values["task"].tolist() == [0, 1, 0, 1]
    assert data.modality.items(data.values) == [
        [TextItem("what? "), TextItem("red", is_answer=True), TextItem("."), ImageItem(0)],
        [ImageItem(0), TextItem("make it green"), ImageItem(1)],
        [TextItem("a blue square"), ImageItem(0)],
        [TextItem("one"), BreakItem(), TextItem("two"), ImageItem(0)],
    ]
    assert torch.equal(data.values["pictures"][0, 0], data.values["pictures"][1, 0])


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"document": ["a", {"image": "none.png"}]}, "no such file"),
        ({"document": ["a", {"image": "../out.png"}]}, "'../out.png'"),
        ({"document": ["a", {"image": "/etc/passwd"}]}, "'/etc/passwd'"),
        ({"document": []}, "'[]'"),
        ({"document": "a text"}, "'a text'"),
        ({"document": [3]}, "3"),
        ({"document": [{"answer": ""}]}, '{"answer": ""}'),
        ({"image": "000.png"}, "none"),
        ({"document": ["a"], "text": "b", "image": "000.png"}, "both"),
        ({"document": ["a"], "task": 3}, "'3'"),
        ("text", "'\"text\"'"),
    ],
)
def test_invalid_line_is_refused(tmp_path: pathlib.Path, entry: object, found: str) -> None:
    square(tmp_path, "out.png", 0)
    file = lines(pairs(tmp_path / "in"), [{"document": ["a", {"image": "000.png"}]}, entry])
    with refuses(InputError, file=f"{file}: line 2", found=found):
        read(str(file))


def test_invalid_files_of_lines_are_refused(tmp_path: pathlib.Path) -> None:
    (pairs(tmp_path) / "notes.md").write_text("x")
    image = {"document": ["a", {"image": "000.png"}]}
    for entries, file in (
        ([image, {"document": ["a", {"image": "notes.md"}]}], "notes.md"),
        ([image, {"document": ["a \ud800"]}], "documents.jsonl: line 2"),
        ([image, {"document": ["a"], "task": "edit"}], "documents.jsonl"),
        ([{"document": ["a"]}, {"document": ["b"]}], "documents.jsonl"),
    ):
        with refuses(InputError, file=str(tmp_path / file)):
            read(str(lines(tmp_path, entries)))


def test_links_to_files_outside_are_refused(tmp_path: pathlib.Path) -> None:
    """A link may stand for a file of the same folder, in folders and in lines."""
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
        with refuses(InputError, file=str(folder)) as error:
            read(str(folder))
        assert f"link.{name}" in str(error.value)
        (folder / f"link.{name}").unlink()
        (folder / f"link.{name}").symlink_to(f"001.{name}")
    (folder / "deep").symlink_to(tmp_path)
    (folder / "link.png").unlink()
    (folder / "link.png").symlink_to(secret)
    for name in ("link.png", "deep/secret.png"):
        with refuses(InputError, found=repr(name)):
            read(str(lines(folder, [{"image": name, "text": "a link"}])))


def arrays(*samples: object, **others: np.ndarray) -> dict[str, np.ndarray]:
    """Return two documents of at most two images, as a model writes them."""
    pictures = np.arange(2 * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 2, 4, 4, 3)
    documents = samples or (["a ", {"answer": "b"}, {"image": "1.png"}, {"image": "0.png"}], ["c", {"image": "0.png"}])
    texts = {
        "samples": np.array([json.dumps(document) for document in documents]),
        "tokens": np.zeros((2, 9), np.int64),
    }
    return {**texts, "pictures": pictures, **others}


def test_arrays_of_documents(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "drawn.npz"
    np.savez(file, **arrays())
    for options in ({}, {"vocabulary": "characters"}):
        data = read(str(file), **options)
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
    ("changed", "place", "found"),
    [
        (arrays(["a", {"image": "2.png"}], ["b"]), "document 1", "'2.png'"),
        (arrays(["a", {"image": "../0.png"}], ["b"]), "document 1", "'../0.png'"),
        (arrays(["a"], "b"), "document 2", "'b'"),
        (arrays(["a"], ["b"]), None, None),
        (arrays(samples=np.array(["[" * 100_000, "a"])), "document 1", repr("[" * 40)),
        (arrays(samples=np.array([["a"], ["b"]])), None, "[2, 1]"),
        (arrays(pictures=np.zeros((2, 2, 4, 4, 3))), None, "[2, 2, 4, 4, 3] of float64"),
        (arrays(pictures=np.zeros((3, 2, 4, 4, 3), np.uint8)), None, "[3, 2, 4, 4, 3] of uint8"),
        (arrays(pictures=np.array([{}, {}])), None, None),
    ],
    ids=["beyond", "outside", "text", "no-image", "nested", "shape", "dtype", "count", "objects"],
)
def test_invalid_arrays_are_refused(
    tmp_path: pathlib.Path, changed: dict[str, np.ndarray], place: str | None, found: str | None
) -> None:
    np.savez(tmp_path / "drawn.npz", **changed)
    with refuses(InputError, file=str(tmp_path / "drawn.npz"), place=place, found=found):
        read(str(tmp_path / "drawn.npz"))


def test_files_of_other_json_are_refused(tmp_path: pathlib.Path) -> None:
    for content in ({"tokens": [[1, 2]], "texts": ["a"], "symbols": {}}, []):
        (tmp_path / "a.json").write_text(json.dumps(content))
        with refuses(InputError, file=str(tmp_path / "a.json")):
            read(str(tmp_path / "a.json"))
    (tmp_path / "texts").mkdir()
    file = lines(tmp_path / "texts", [{"text": "a"}], "texts.jsonl")
    with refuses(InputError, file=str(tmp_path / "texts")) as error:
        read(str(tmp_path / "texts"))
    assert str(file) in str(error.value.remedy)


def test_images_are_resized_to_one_size(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path / "mixed")
    square(tmp_path / "mixed", "000.png", 0, side=20)
    assert read(str(tmp_path / "mixed")).values["pictures"].shape[-2:] == (8, 8)
    large = str(pairs(tmp_path / "large", 3, side=100))
    for options in ({}, {"vocabulary": "characters"}):
        assert read(large, **options).values["pictures"].shape[-2:] == (32, 32)
        assert read(large, longest=48, **options).values["pictures"].shape[-2:] == (48, 48)


def test_like_keeps_size_and_vocabulary(tmp_path: pathlib.Path) -> None:
    data = read(str(pairs(tmp_path / "a")), vocabulary="characters")
    pairs(tmp_path / "b", side=24)
    other = read(str(tmp_path / "b"), like=data.modality)
    assert other.values["pictures"].shape[-2:] == (8, 8)
    assert np.array_equal(other.values["rows"].numpy(), data.values["rows"].numpy())
    (tmp_path / "b" / "000.txt").write_text("a red ∆")
    with refuses(InputError, file=str(tmp_path / "b"), place="000.png"):
        read(str(tmp_path / "b"), like=data.modality)


def test_pairs_of_subfolders_are_read(tmp_path: pathlib.Path) -> None:
    pairs(tmp_path, n=5)
    pairs(tmp_path / "more", n=3)
    (tmp_path / "small").mkdir()
    square(tmp_path / "small", "x.png", 1)
    data = read(str(tmp_path))
    assert len(data) == 8
    assert "small" in data.notes[0]
    (tmp_path / "more" / "001.txt").unlink()
    with refuses(InputError, file=str(tmp_path)) as error:
        read(str(tmp_path))
    assert "more/001.png" in str(error.value)


def test_folder_with_a_file_of_lines(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        square(tmp_path / "pictures", f"{i}.png", i)
    file = lines(tmp_path, [{"document": ["a square", {"image": f"pictures/{i}.png"}]} for i in range(3)])
    of_folder, of_file = read(str(tmp_path)), read(str(file))
    assert of_folder.notes == of_file.notes
    assert all(torch.equal(of_folder.values[leaf], of_file.values[leaf]) for leaf in of_file.values)
    lines(tmp_path, [{"image": "pictures/0.png", "text": "a square"}], "other.jsonl")
    with refuses(InputError, found="2"):
        read(str(tmp_path))
