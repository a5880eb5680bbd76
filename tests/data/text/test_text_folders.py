"""Folders of texts: one in each file, classes by sub-folders, what is empty told, tables left alone."""

import pathlib

import pytest

from feller.core.errors import InputError
from feller.data.loading.read import read
from feller.data.text.modality import Text


def notes(folder: pathlib.Path, n: int = 4) -> pathlib.Path:
    """Write a text into each of some files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{i}.txt").write_text(f"note {i}\r\nof {folder.name}")
    return folder


def test_each_file_is_a_text(tmp_path: pathlib.Path) -> None:
    (notes(tmp_path / "notes") / "empty.txt").write_text(" \n")
    (tmp_path / "notes" / "more.pdf").write_text("")
    data = read(str(tmp_path / "notes"))
    assert isinstance(data.modality, Text)
    assert data.modality.documents
    assert data.modality.texts(data.values) == [f"note {i}\nof notes" for i in range(4)]
    assert data.notes[:3] == (
        "skipped files that are no texts (1)",
        "each of the 4 files is an example",
        "left out 1 of 5 files, which hold no text: empty.txt",
    )
    assert read(str(tmp_path / "notes"), like=data.modality).values.equal(data.values)


def test_folders_inside_are_classes(tmp_path: pathlib.Path) -> None:
    for name in ("sea", "land"):
        notes(tmp_path / name)
    (tmp_path / "air").mkdir()
    (tmp_path / "air" / "a.txt").write_text("")
    data = read(str(tmp_path))
    assert data.modality.conditions == {"label": ("land", "sea")}
    assert data.given["label"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    (tmp_path / "loose.txt").write_text("text")
    with pytest.raises(InputError, match=r"1 texts \(loose\.txt, \.\.\.\) lie beside the folders of 3 classes"):
        read(str(tmp_path))


def test_a_text_alone_is_cut_like_any_other(tmp_path: pathlib.Path) -> None:
    (tmp_path / "book.txt").write_text("It was a dark and stormy night; the rain fell in torrents. " * 20)
    (tmp_path / "empty.txt").write_text("")
    data = read(str(tmp_path))
    assert isinstance(data.modality, Text)
    assert not data.modality.documents


def test_a_character_that_is_not_known_is_told_with_its_file(tmp_path: pathlib.Path) -> None:
    modality = read(str(notes(tmp_path / "a"))).modality
    (notes(tmp_path / "b") / "x.txt").write_text("none, €")
    with pytest.raises(InputError, match=r"0\.txt: expected the \d+ characters"):
        read(str(tmp_path / "b"), like=modality)


def test_folders_of_numbers_and_of_nothing_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match=r"name one file, such as .*a\.txt"):
        read(str(tmp_path))
    (tmp_path / "b.txt").write_text("1,2\n3,4\n")
    with pytest.raises(InputError, match=r"name one file, such as .*b\.txt"):
        read(str(tmp_path))
