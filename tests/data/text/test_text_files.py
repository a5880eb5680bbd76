"""Text files and folders as examples."""

import gzip
import json
import pathlib
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.points.euclidean_points import Points
from feller.data.text import dataset
from feller.data.text.files import is_list
from feller.data.text.modality import Text
from feller.data.text.subwords import Subwords
from feller.data.text.vocabulary import Bytes, Characters
from tests.errors import refuses

NAMES = ["emma", "olivia", "ava", "zoë", "o'neil", "li"] * 5
PROSE = (
    "It is a truth universally acknowledged, that a single man\nin possession of a good fortune, must be in want.\n\n"
) * 20


def write_file(folder: pathlib.Path, name: str, content: str | bytes) -> str:
    path = folder / name
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return str(path)


def texts(data: Dataset) -> list[str]:
    assert isinstance(data.modality, Text)
    return data.modality.texts(data.values)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_windows_of_prose(tmp_path: pathlib.Path, name: str) -> None:
    data = read(write_file(tmp_path, name, "\ufeff" + PROSE.replace("\n", "\r\n")))
    assert data.modality == Text(Characters("".join(sorted(set(PROSE)))), 128, documents=False)
    assert all(text in PROSE and len(text) == 128 for text in texts(data))
    assert PROSE.startswith(texts(data)[0])
    assert data.groups is not None
    assert f"{len(PROSE):,} characters" in data.notes[0]


def test_windows_with_gaps(tmp_path: pathlib.Path, monkeypatch) -> None:
    text = PROSE * 20  # blocks of 640
    monkeypatch.setattr(dataset, "MAX_WINDOW_SYMBOLS", len(text) // 2)
    data = read(write_file(tmp_path, "a.txt", text), longest=20)
    used = len(data) / (len(text) / 20)
    assert used == pytest.approx(0.5, abs=0.05)  # each block begins with a window
    assert f"{1 - used:.0%}" in data.notes[0]


def test_list_of_lines_is_documents(tmp_path: pathlib.Path) -> None:
    data = read(write_file(tmp_path, "names.txt", "\n".join(NAMES)))
    assert data.modality == Text(Characters("'aeilmnovzë"), 7, documents=True)
    assert data.groups is None
    assert texts(data) == NAMES
    assert (data.values[0] == torch.tensor([2, 5, 5, 1, 11, 11, 11])).all()


@pytest.mark.parametrize(
    ("text", "so"),
    [
        ("\n".join(NAMES), True),
        ("\n".join(NAMES[:20]), False),
        ("\n".join(["CC(=O)Oc1ccccc1C(=O)O", "C"] * 20), True),
        ("\n\n".join(NAMES), False),
        ("\n".join([*NAMES, "x" * 100]), False),
        ("\n".join(["x" * 65] * 30), False),
        (PROSE, False),
        ("to be or not to be " * 100, False),
        ("", False),
    ],
)
def test_is_list(text: str, so: bool) -> None:
    assert is_list(text) == so


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines(tmp_path: pathlib.Path, name: str) -> None:
    lines = [{"text": "one\ntwo\u2028", "label": "b"}, {"Label": 3, "id": "x", "text": "three"}]
    content = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    data = read(write_file(tmp_path, name, content))
    assert texts(data) == ["one\ntwo\u2028", "three"]
    assert data.modality.classes == ("3", "b")
    assert data.given["label"].tolist() == [1, 0]


def test_json_lines_with_another_field_or_single_text(tmp_path: pathlib.Path) -> None:
    assert texts(read(write_file(tmp_path, "a.jsonl", '{"body": "ab", "n": 1}\n{"body": "c", "n": 2}\n'))) == [
        "ab",
        "c",
    ]
    assert texts(read(write_file(tmp_path, "a.jsonl", '"ab"\n"c"\n'))) == ["ab", "c"]
    alone = read(write_file(tmp_path, "a.jsonl", json.dumps({"text": "\n".join(NAMES * 9)})))
    assert not alone.modality.documents
    assert texts(alone)[0] == "\n".join(NAMES * 9)[:128]


def test_text_columns(tmp_path: pathlib.Path) -> None:
    rows = 'id,Text,label\n1,"one, ""two""\nthree",b\n2, four ,a\n'
    for name in ("a.csv", "a.csv.gz"):
        data = read(write_file(tmp_path, name, rows))
        assert texts(data) == ['one, "two"\nthree', " four "]
        assert data.given["label"].tolist() == [1, 0]
    single = read(write_file(tmp_path, "b.tsv", "smiles\tclass\nCCO\tx\nc1ccccc1\ty\n"))
    assert texts(single) == ["CCO", "c1ccccc1"]
    assert single.modality.classes == ("x", "y")
    assert texts(read(write_file(tmp_path, "c.csv", "name\nemma\nava\n"))) == ["emma", "ava"]
    assert texts(read(write_file(tmp_path, "d.csv", "text\n1984\n2001\n"))) == ["1984", "2001"]


@pytest.mark.parametrize(
    "content",
    ["1,2\n3,4\n", "x,y\n1,2\n", "x\ty\tlabel\n1\t2\ta\n3\t4\tb\n", "1\n2\n3\n", "0.5\n", "x;label\n1;a\n2;b\n"],
)
def test_tables_of_numbers_are_points(tmp_path: pathlib.Path, content: str) -> None:
    for name in ("a.txt", "a.csv", "a.txt.gz"):
        assert isinstance(read(write_file(tmp_path, name, content)).modality, Points), name
    with refuses(InputError, found="'z'"):  # a damaged table is not text
        read(write_file(tmp_path, "a.txt", "x,y\n1,2\n3,4\n5,z\n"))


def test_vocabulary_option(tmp_path: pathlib.Path) -> None:
    prose, names = write_file(tmp_path, "a.txt", PROSE), write_file(tmp_path, "b.txt", "\n".join(NAMES))
    assert read(prose, vocabulary="bytes").modality == Text(Bytes(), 128, documents=False)
    sub = read(prose, vocabulary="subwords:260", longest=16).modality
    assert isinstance(sub.vocabulary, Subwords)
    assert (sub.vocab_size, sub.length) == (260, 16)
    assert read(prose, vocabulary="subwords:300", longest=32).modality.length == 32
    assert read(names, vocabulary="bytes").modality == Text(Bytes(), 7, documents=True)
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    assert read(write_file(tmp_path, "c.txt", many * 3)).modality.vocabulary == Bytes()
    assert read(write_file(tmp_path, "c.txt", many * 3), vocabulary="characters").modality.vocab_size == 300
    for wrong in ("byte", "subwords:x", "bytes:300", "", "subwords:"):
        with refuses(UsageError, argument="vocabulary"):
            read(prose, vocabulary=wrong)
    with refuses(UsageError, file="example:moons"):
        read("example:moons", vocabulary="bytes")
    with refuses(UsageError, argument="space"):
        read(prose, space="torus")


def test_vocabulary_makes_numbers_text(tmp_path: pathlib.Path) -> None:
    numbers = "".join(f"{i * i}\n" for i in range(40))
    for name, content in (("a.txt", numbers), ("a.csv", f"n\n{numbers}")):
        path = write_file(tmp_path, name, content)
        assert isinstance(read(path).modality, Points)
        data = read(path, vocabulary="characters")
        assert texts(data) == numbers.split()
        assert texts(read(path, like=data.modality)) == numbers.split()


def test_longest_option(tmp_path: pathlib.Path) -> None:
    prose, names = write_file(tmp_path, "a.txt", PROSE), write_file(tmp_path, "b.txt", "\n".join(NAMES))
    assert read(prose, longest=40).values.shape[1] == 40
    short = read(names, longest=4)
    assert short.modality.length == 4
    assert texts(short)[:4] == ["emma", "oliv", "ava", "zoë"]
    assert any("10 of 30" in note for note in short.notes)
    assert read(names, longest=100).modality.length == 7
    long = read(write_file(tmp_path, "c.jsonl", f'"{"ab" * 3000}"\n"a"\n'))
    assert long.values.shape == (2, 4096)
    assert any("1 of 2" in note for note in long.notes)
    for longest in (1, 5000):
        with refuses(UsageError, found=str(longest)):
            read(prose, longest=longest)


def test_like_sets_vocabulary_and_length(tmp_path: pathlib.Path) -> None:
    prose, names = write_file(tmp_path, "a.txt", PROSE), write_file(tmp_path, "b.txt", "\n".join(NAMES))
    stream, documents = read(prose, longest=20).modality, read(names).modality
    part = PROSE[:58]
    held_out = read(write_file(tmp_path, "c.txt", part), like=stream, longest=99)
    assert held_out.modality is stream
    assert texts(held_out)[0] == part[:20]
    assert held_out.groups is not None
    more = read(write_file(tmp_path, "d.txt", "ava\n\nolivianna\n"), like=documents)
    assert texts(more) == ["ava", "olivian"]
    with refuses(InputError, file=str(tmp_path / "d.txt"), place="text 2", found="'x' (U+0078) at character 1"):
        read(write_file(tmp_path, "d.txt", "ava\nx\n"), like=documents)
    with refuses(InputError, found="2 in text 1"):
        read(write_file(tmp_path, "e.jsonl", '"in"\n"a"\n'), like=stream)
    for name in ("moons", "digits"):
        with refuses(InputError, file=f"example:{name}"):
            read(f"example:{name}", like=stream)
        with refuses(InputError, file=prose, found="texts"):
            read(prose, like=read(f"example:{name}").modality)


@pytest.mark.parametrize(
    ("name", "content", "place", "found"),
    [
        ("a.txt", b"ab\xffc", None, "byte 0xff at position 2"),
        ("a.txt", b"\xef\xbb\xbfab\xc3", None, "byte 0xc3 at position 5"),
        ("a.jsonl", b'"a\xe9"\n', None, "byte 0xe9 at position 2"),
        ("a.csv", b"text\na\n\xe9\n", None, "byte 0xe9 at position 7"),
        ("a.txt", b"", None, None),
        ("a.txt", b"\n \n\t\n", None, None),
        ("a.jsonl", b"\n\n", None, None),
        ("a.txt", b"a" * 1000, None, None),
        ("a.csv", b"text\naa\naaa\n", None, None),
        ("a.jsonl", b'""\n" "\n', None, None),
        ("a.txt", b"to be or not", None, None),
        ("a.jsonl", b'"ab"\n""\n', None, "one"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 1, "n": 2}\n', "line 2", "1"),
        ("a.jsonl", b'{"a": "x", "b": "y"}\n', "line 1", "a, b"),
        ("a.jsonl", b'{"text": "a", "label": [1]}\n', "line 1", "'[1]'"),
        ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b"}\n', None, None),
        ("a.jsonl", b'{"text": "a"\n', "line 1", '\'{"text": "a"\''),
        ("a.jsonl", b"[" * 100000, "line 1", repr("[" * 40)),
        ("a.jsonl", b'{"text": null, "id": "a1"}\n', "line 1", "None"),
        ("a.jsonl", b"3\n", "line 1", "'3'"),
        ("a.csv", b"text,label\na,x\nb\n", None, None),
        ("a.csv", b"text\na, b\n", None, None),
        ("a.csv", b'text\n"a\n', None, None),
        ("a.csv", b"text,label\na,x\nb,\n", None, None),
    ],
)
def test_invalid_files_are_refused(
    tmp_path: pathlib.Path, name: str, content: bytes, place: str | None, found: str | None
) -> None:
    with refuses(InputError, file=str(tmp_path / name), place=place, found=found):
        read(write_file(tmp_path, name, content))


def test_lone_surrogates_are_refused(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, file=f"{tmp_path / 'a.jsonl'}: line 1"):
        read(write_file(tmp_path, "a.jsonl", b'"a\\ud800"\n'))


def test_damaged_gzip_files_are_refused(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(write_file(tmp_path, "a.txt.gz", PROSE))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive", whole[:15] + b"xxxx" + whole[19:]):
        path.write_bytes(damaged)
        with refuses(InputError, file=str(path)):
            read(str(path))


def write_files(folder: pathlib.Path) -> list[pathlib.Path]:
    write_file(folder, "a.txt", PROSE[:600])
    write_file(folder, "b.txt.gz", "\n".join(NAMES))
    entries = [{"text": name, "label": "xy"[i % 2]} for i, name in enumerate(NAMES)]
    write_file(folder, "c.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))
    write_file(folder, "d.csv", "text,label\n" + "".join(f'"{name}",k\n' for name in NAMES))
    np.savez(folder / "e.npz", samples=np.array(NAMES), tokens=np.arange(90).reshape(30, 3))
    return sorted(folder.iterdir())


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_random_damage_gives_data_or_input_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = data.draw(st.sampled_from(write_files(pathlib.Path(folder))))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
        message = None
        try:
            found = read(str(path))
            assert len(found) > 0
            if isinstance(found.modality, Text):
                found.modality.encode(found.values)
        except InputError as error:
            message = str(error)
        assert message is None or (path.name in message and "\n" not in message)


def write_notes(folder: pathlib.Path, n: int = 4) -> pathlib.Path:
    """Write a text into each of some files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{i}.txt").write_text(f"note {i}\r\nof {folder.name}")
    return folder


def test_folder_of_texts(tmp_path: pathlib.Path) -> None:
    (write_notes(tmp_path / "notes") / "empty.txt").write_text(" \n")
    (tmp_path / "notes" / "more.pdf").write_text("")
    data = read(str(tmp_path / "notes"))
    assert isinstance(data.modality, Text)
    assert data.modality.documents
    assert data.modality.texts(data.values) == [f"note {i}\nof notes" for i in range(4)]
    assert any("empty.txt" in note for note in data.notes)
    assert read(str(tmp_path / "notes"), like=data.modality).values.equal(data.values)


def test_subfolders_are_classes(tmp_path: pathlib.Path) -> None:
    for name in ("sea", "land"):
        write_notes(tmp_path / name)
    (tmp_path / "air").mkdir()
    (tmp_path / "air" / "a.txt").write_text("")
    data = read(str(tmp_path))
    assert data.modality.conditions == {"label": ("land", "sea")}
    assert data.given["label"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    (tmp_path / "loose.txt").write_text("text")
    with refuses(InputError, file=str(tmp_path)) as error:
        read(str(tmp_path))
    assert "loose.txt" in str(error.value)


def test_folder_with_one_text_is_windows(tmp_path: pathlib.Path) -> None:
    (tmp_path / "book.txt").write_text("It was a dark and stormy night; the rain fell in torrents. " * 20)
    (tmp_path / "empty.txt").write_text("")
    data = read(str(tmp_path))
    assert isinstance(data.modality, Text)
    assert not data.modality.documents


def test_unknown_characters_are_refused_with_their_file(tmp_path: pathlib.Path) -> None:
    modality = read(str(write_notes(tmp_path / "a"))).modality
    (write_notes(tmp_path / "b") / "x.txt").write_text("none, €")
    with refuses(InputError, file=str(tmp_path / "b"), place="0.txt"):
        read(str(tmp_path / "b"), like=modality)


def test_folders_of_numbers_and_of_empty_files_are_refused(tmp_path: pathlib.Path) -> None:
    for name, content in (("a.txt", ""), ("b.txt", "1,2\n3,4\n")):
        (tmp_path / name).write_text(content)
        with refuses(InputError, file=str(tmp_path)) as error:
            read(str(tmp_path))
        assert name in str(error.value.remedy)
