"""Decompression bombs are refused in one line."""

import gzip
import io
import json
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import InputError
from feller.data.files import decompression
from feller.data.files.delimited import read_parquet, read_sheet
from feller.data.loading.dataset_reader import read
from tests.errors import refuses
from tests.safety.child import ROOM, feller
from tests.safety.specimen_runs import copied

GIB = 2**30


def write_compressed(path: pathlib.Path, head: bytes, count: int, letter: bytes = b"0") -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(head)
        block = letter * (2**20 // len(letter))
        for _ in range(count >> 20):
            file.write(block)


PACKED = {
    "csv of one cell": ("a.csv.gz", b"x,y\n1,", 3 * GIB, b"0"),
    "csv of rows": ("a.csv.gz", b"x,y\n", 3 * GIB, b"\n"),
    "csv of small cells": ("a.csv.gz", b"a,b\n", 700 << 20, b"0,0\n"),  # two bytes each, and many more as numbers
    "csv of short words": ("a.csv.gz", b"a,b\n", 700 << 20, b"xy,\n"),
    "lines of a letter": ("a.txt.gz", b"", 700 << 20, b"a\n"),
    "text": ("a.txt.gz", b"", 3 * GIB, b"a"),
    "endless line": ("a.jsonl.gz", b'{"text": "', 3 * GIB, b"a"),
}
"""Name, head, size and repeated bytes of compressed texts."""


def packed(name: str, head: bytes, count: int, letter: bytes) -> Callable[[pathlib.Path], pathlib.Path]:
    def bomb(folder: pathlib.Path) -> pathlib.Path:
        write_compressed(folder / name, head, count, letter)
        return folder / name

    return bomb


def idx(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "train-images-idx3-ubyte.gz"
    write_compressed(path, bytes([0, 0, 8, 3]) + struct.pack(">III", 3 * 2**20, 32, 32), 3 * GIB)
    return path


def npz(folder: pathlib.Path) -> pathlib.Path:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (3 * GIB, 1)})
    with (
        zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file,
        file.open("samples.npy", "w", force_zip64=True) as array,
    ):
        array.write(head.getvalue())
        for _ in range(3 << 10):
            array.write(bytes(2**20))
    return folder / "a.npz"


def npz_that_claims(folder: pathlib.Path) -> pathlib.Path:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 2)})
    with zipfile.ZipFile(folder / "a.npz", "w") as file:
        file.writestr("samples.npy", head.getvalue() + bytes(64))
    return folder / "a.npz"


def npy_that_claims(folder: pathlib.Path) -> pathlib.Path:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 2)})
    (folder / "a.npy").write_bytes(head.getvalue() + bytes(64))
    return folder / "a.npy"


def png(folder: pathlib.Path) -> pathlib.Path:
    """Write a picture of 60,000 x 60,000 pixels without making it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    body = chunk(b"IDAT", zlib.compress(bytes(2**20), 9)) + chunk(b"IEND", b"")
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    return folder / "a.png"


def parquet(folder: pathlib.Path) -> pathlib.Path:
    import pyarrow as pa
    from pyarrow import parquet as pq

    rows = 2**26
    constant = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["x" * 1000]))
    pq.write_table(pa.table({"a": constant, "b": constant}), folder / "a.parquet", compression="zstd")
    return folder / "a.parquet"


def parquet_of_one_text(folder: pathlib.Path) -> pathlib.Path:
    """Its rows are few enough, and what they say is long."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    rows = 3_000_000
    constant = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["x" * 2000]))
    pq.write_table(pa.table({"text": constant}), folder / "a.parquet", compression="zstd")
    return folder / "a.parquet"


def laz(folder: pathlib.Path) -> pathlib.Path:
    from tests.safety.specimens import DATA

    content = bytearray(DATA["laz"].make())
    content[107:111] = (2**32 - 1).to_bytes(4, "little")  # number of points
    (folder / "a.laz").write_bytes(content)
    return folder / "a.laz"


QUICK = (npz_that_claims, npy_that_claims, png, laz)
SLOW = (idx, npz, parquet, parquet_of_one_text)


def check_refused_with_little_memory(
    folder: pathlib.Path, bombs: tuple[Callable[[pathlib.Path], pathlib.Path], ...], room: int = ROOM
) -> None:
    """Read all in one process, whose memory is measured."""
    paths = []
    for bomb in bombs:
        (folder / str(len(paths))).mkdir()
        paths.append(str(bomb(folder / str(len(paths)))))
    warm = (
        "import pandas, pyarrow, scipy, laspy\nfrom feller.data.loading.dataset_reader import read\n"
        "from feller.core.errors import InputError"
    )
    tried = (
        f"for path in {paths!r}:\n    try:\n        read(path); print('READ', path)\n    except InputError as error:\n"
        "        print('LINE', str(error))\n"
    )
    done = feller(cwd=folder, python=f"{warm}\n{tried}")
    assert done.status == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["LINE"] * len(paths), done.out
    plain = feller(cwd=folder, python=warm)
    assert done.peak - plain.peak < room


def test_headers_with_large_shapes_are_refused(tmp_path: pathlib.Path) -> None:
    check_refused_with_little_memory(tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", SLOW, ids=lambda bomb: bomb.__name__)
def test_compressed_arrays_are_refused(tmp_path: pathlib.Path, bomb: Callable) -> None:
    check_refused_with_little_memory(tmp_path, (bomb,), ROOM + decompression.MIN_EXPANDED_BYTES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKED)
def test_compressed_texts_are_refused(tmp_path: pathlib.Path, kind: str) -> None:
    check_refused_with_little_memory(tmp_path, (packed(*PACKED[kind]),))


@pytest.mark.parametrize(
    "name", ["a.csv.gz", "a.txt.gz", "a.jsonl.gz", "train-images-idx3-ubyte.gz", "a.npz", "a.parquet"]
)
def test_compression_limit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The same with small numbers: 4 MB may come out, and more would."""
    monkeypatch.setattr(decompression, "MIN_EXPANDED_BYTES", 4_000_000)
    monkeypatch.setattr(decompression, "MIN_EXPANDED_TEXT_BYTES", 4_000_000)
    path = tmp_path / name
    if name.endswith(".gz"):
        head = {"a.csv.gz": b"x\n", "a.jsonl.gz": b'{"text": "'}.get(name, b"")
        head = bytes([0, 0, 8, 3]) + struct.pack(">III", 6, 2**10, 2**10) if "idx" in name else head
        write_compressed(path, head, 6 * 2**20, b"a" if "idx" not in name else b"\0")
    elif name == "a.npz":
        np.savez_compressed(path, samples=np.zeros((6 * 2**20, 1), np.uint8))
    else:
        import pandas as pd

        pd.DataFrame({"a": np.zeros(2**19), "b": np.zeros(2**19)}).to_parquet(path)
    with refuses(InputError):
        read(str(path))


def test_dictionary_encoded_texts_count_in_each_row(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    monkeypatch.setattr(decompression, "MIN_EXPANDED_BYTES", 4_000_000)
    for rows in (1_000, 6_000):
        words = pd.Categorical.from_codes(np.arange(rows) % 2, ["x" * 1000, "y" * 1000])
        pd.DataFrame({"a": words, "b": np.arange(rows)}).to_parquet(tmp_path / f"{rows}.parquet")
    assert len(read_parquet(tmp_path / "1000.parquet")) == 1_000
    with refuses(InputError, file=str(tmp_path / "6000.parquet")):
        read_parquet(tmp_path / "6000.parquet")


def test_ordinary_compressed_tables_are_read(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "MIN_EXPANDED_TEXT_BYTES", 10_000)
    cells = np.random.default_rng(0).integers(0, 100, (10_000, 2))
    lines = "".join(f"{a},{b}\n" for a, b in cells)
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(f"a,b\n{lines}")
    assert len(read(str(tmp_path / "a.csv.gz"))) == 10_000
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write("a,b\n" + "0,0\n" * 10_000)
    for reader in (lambda path: read(str(path)), read_sheet):
        with refuses(InputError, file=str(tmp_path / "b.csv.gz")):
            reader(tmp_path / "b.csv.gz")
    (tmp_path / "b.csv").write_text("a,b\n" + "0,0\n" * 10_000)  # unpacked by hand
    assert len(read(str(tmp_path / "b.csv"))) == 10_000


def test_text_size_limit(tmp_path: pathlib.Path) -> None:
    for name in ("a.csv", "a.txt", "a.jsonl"):
        with (tmp_path / name).open("wb") as file:
            file.write(b'{"text": "a\n')
            file.truncate(5 * GIB)  # takes no place on the disk
        with refuses(InputError, file=str(tmp_path / name), found="5.0 GiB"):
            read(str(tmp_path / name))


def test_long_lines_are_quoted_in_short(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ' + "a" * 2**22)
    with pytest.raises(InputError) as caught:
        read(str(tmp_path / "a.jsonl"))
    assert len(str(caught.value)) < 500


def test_large_images_are_reduced(tmp_path: pathlib.Path) -> None:
    Image.new("L", (4_000, 3_000)).save(tmp_path / "a.png")
    assert read(str(tmp_path / "a.png")).modality.width == 64


@pytest.mark.portable
@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"), [("width", 500_000), ("width", 10**12), ("depth", 10**12), ("width", 10**30), ("depth", 3)]
)
def test_architectures_larger_than_their_weights(tmp_path: pathlib.Path, field: str, value: int) -> None:
    run = copied(tmp_path / "r")
    content = json.loads(run.model.read_text())
    content["architecture"][field] = value
    run.model.write_text(json.dumps(content))
    done = feller("sample", "r", "-n", 2, "--out", "a.csv", cwd=tmp_path)
    assert done.status == 1
    assert len(done.err.strip().splitlines()) == 1
    plain = feller(cwd=tmp_path, python="import feller.models.model, scipy, pandas")
    assert done.peak - plain.peak < ROOM


@pytest.mark.portable
def test_large_architecture_of_a_resumed_run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    from feller.app.cli import main

    run = copied(tmp_path / "r")
    model, recipe = (json.loads(path.read_text()) for path in (run.model, run.recipe))
    model["architecture"]["width"] = recipe["recipe"]["architecture"]["width"] = 100_000
    run.model.write_text(json.dumps(model))
    run.recipe.write_text(json.dumps(recipe))
    assert main(["fit", "--resume", "--out", str(run.path)]) == 1
    assert "2,501,900,000" in capsys.readouterr().err  # bytes of parameters
