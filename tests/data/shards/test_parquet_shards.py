"""Parquet shards of points, tables and texts, compared with single files."""

import decimal
import pathlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.batches import batch_loader, split
from feller.data.files.delimited import check_header
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawPoints
from feller.data.modality import Dataset
from feller.data.points.columns import columns_in_order
from feller.data.points.euclidean_points import Points
from feller.data.shards import parquet_columns, row_groups
from feller.data.shards.row_groups import make_groups
from feller.data.tables.modality import Table
from feller.spaces import Sphere
from tests.errors import refuses


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_groups.cache_clear()
    return tmp_path


def write_shards(frame: pd.DataFrame, folder: str = "parts", shards: int = 3, rows: int = 16) -> None:
    pathlib.Path(folder).mkdir()
    for i, some in enumerate(np.array_split(np.arange(len(frame)), shards)):
        frame.iloc[some].to_parquet(f"{folder}/part-{i:02d}.parquet", index=False, row_group_size=rows)


def points(n: int = 120) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {"a": generator.normal(3, 2, n), "b": generator.normal(size=n), "label": ["x", "y", "z"] * (n // 3)}
    )


def people(n: int = 120) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    age = pd.array(generator.integers(18, 80, n), dtype="Int64")
    age[5] = pd.NA
    return pd.DataFrame(
        {
            "age": age,
            "school": generator.choice(["primary", "secondary", "doctorate"], n),
            "income": np.round(generator.gamma(2, 900, n), 2),
            "since": pd.Timestamp("2015-01-01") + pd.to_timedelta(generator.integers(0, 3000, n), unit="D"),
            "member": generator.random(n) < 0.5,
        }
    )


def assert_equal_splits(shards: Dataset, whole: Dataset, size: int, steps: Iterable[int]) -> None:
    """Compare held-out examples, and training batches with their conditions."""
    (train, held_out), (whole_train, whole_held_out) = split(shards), split(whole)
    assert torch.equal(held_out.values, whole_held_out.values)
    of_shards, of_whole = batch_loader(train, size, Rng(1)), batch_loader(whole_train, size, Rng(1))
    for step in steps:
        a, b = of_shards(step, slice(0, size)), of_whole(step, slice(0, size))
        assert torch.equal(a["x_1"], b["x_1"])
        assert a["given"].keys() == b["given"].keys()
        assert all(torch.equal(a["given"][name], b["given"][name]) for name in a["given"])


@pytest.mark.parametrize(("frame", "kind"), [(points(), Points), (people(), Table)])
def test_shards_equal_single_file(frame, kind):
    write_shards(frame)
    frame.to_parquet("whole.parquet", index=False)
    shards, whole = read("parts"), read("whole.parquet")
    assert isinstance(shards.modality, kind)
    assert shards.modality == whole.modality
    assert torch.equal(shards.values, whole.values)
    rows = torch.tensor([119, 3, 60, 4])
    assert torch.equal(shards.take(rows).values, whole.subset(rows).values)
    assert_equal_splits(shards, whole, 9, (0, 11, 12, 40))


def test_text_column():
    texts = [f"text number {i}" for i in range(60)]
    texts[41] = "with a Ω and much longer than all of the others"
    write_shards(pd.DataFrame({"text": texts, "label": ["a", "b"] * 30, "url": texts}))
    data = read("parts")
    assert data.modality.texts(data.take(torch.tensor([41, 0])).values) == [texts[41], texts[0]]
    assert data.modality.classes == ("a", "b")


def test_empty_texts_are_left_out_as_in_single_file():
    texts = [f"text number {i}" if i % 3 else None for i in range(60)]
    texts[7] = "  "
    frame = pd.DataFrame({"text": texts, "label": ["a", "b", "c", "d"] * 15})
    write_shards(frame)
    frame[[bool(text and text.strip()) for text in texts]].to_csv("whole.csv", index=False)
    shards, whole = read("parts"), read("whole.csv", vocabulary="characters")
    assert shards.total == len(whole) == 39
    every = shards.take(torch.arange(39))
    assert torch.equal(every.values, whole.values)
    assert torch.equal(every.given["label"], whole.given["label"])
    assert any("part-00.parquet: row 1" in note for note in shards.notes)
    assert_equal_splits(shards, whole, 7, range(8))


def test_column_of_empty_texts_is_refused():
    write_shards(pd.DataFrame({"text": ["", None, " "] * 8}))
    with refuses(InputError, file="parts/part-00.parquet", column="text", found="none"):
        read("parts")


TYPES = {
    "binary": pa.array([b"\xff\xfe"] * 20),
    "struct": pa.array([{"a": 1, "b": "x"}] * 20),
    "list": pa.array([[1.0, 2.0]] * 20),
    "duration": pa.array([3] * 20, pa.duration("s")),
    "uuid": pa.array([b"x" * 16] * 20, pa.uuid()),
}


@pytest.mark.parametrize("name", TYPES)
def test_unsupported_column_types_are_refused(name):
    pathlib.Path("parts").mkdir()
    others = {"what": {"word": ["a", "b"] * 10}, "text": {"x": np.arange(20)}, "label": {"x": np.arange(20.0)}}
    for column, other in others.items():
        pq.write_table(pa.table({column: TYPES[name], **other}), "parts/a.parquet")
        with refuses(InputError, column=column):
            read("parts")
    pq.write_table(pa.table({"text": ["a", "bc"] * 10, "what": TYPES[name]}), "parts/a.parquet")
    assert read("parts").total == 20  # only the texts are read


def test_column_types_equal_single_file(monkeypatch):
    n, times = 40, pd.Timestamp("2020-01-01") + pd.to_timedelta(range(40), unit="D")
    cells = {
        "word": pa.array(["red", "green", "blue", None] * 10).dictionary_encode(),
        "large": pa.array(["a", "b"] * 20, pa.large_string()),
        "day": pa.array(times.date),
        "when": pa.array(times),
        "clock": pa.array(times.time, pa.time32("s")),
        "yes": pa.array([True, False] * 20),
        "price": pa.array([decimal.Decimal(i) / 4 for i in range(n)], pa.decimal128(10, 2)),
        "half": pa.array(np.arange(n, dtype=np.float16)),
    }
    table = pa.table(cells)
    pathlib.Path("parts").mkdir()
    for i in (0, 20):
        pq.write_table(table.slice(i, 20), f"parts/{i:02d}.parquet", row_group_size=5)
    pq.write_table(table, "whole.parquet")
    shards, whole = read("parts"), read("whole.parquet")
    assert shards.modality == whole.modality
    assert torch.equal(shards.take(torch.arange(n).flip(0)).values.flip(0), whole.values)
    monkeypatch.setattr(parquet_columns.ParquetCells, "sample_size", 4)
    few = read("parts")
    assert few.modality.cells(few.take(torch.arange(n)).values).column("word") == [*(["red", "green", "blue", ""] * 10)]


def test_dictionary_texts_have_a_memory_limit():
    pathlib.Path("parts").mkdir()
    words = pa.array(["to be", "or not"] * 10).dictionary_encode()
    pq.write_table(pa.table({"text": words}), "parts/a.parquet")
    assert read("parts").total == 20
    large = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4_000, dtype=np.int32)), pa.array(["a" * 2**19]))
    pq.write_table(pa.table({"text": large}), "parts/a.parquet")
    with refuses(InputError, file="parts/a.parquet"):
        read("parts")


def test_column_lookup_is_linear():
    """Comparing each of 3,000 names with all others would take 9 million comparisons."""
    pathlib.Path("parts").mkdir()
    counted = 0

    class Name(str):
        __slots__ = ()

        def __eq__(self, other):
            nonlocal counted
            counted += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Name(f"c{i}") for i in range(3_000)]
    check_header(names, "here")
    values = np.zeros((2, 3_000))
    assert np.array_equal(columns_in_order(RawPoints(values, columns=tuple(names)), tuple(names)), values)
    assert counted < 100_000
    pq.write_table(pa.table({name: [1.0, 2.0] for name in map(str, names)}), "parts/a.parquet")
    assert read("parts").take(torch.tensor([1])).values.shape == (1, 3_000)


def test_rows_come_once_per_epoch_with_few_reads(monkeypatch):
    """With two of ten row groups cached, an epoch reads each group about once."""
    write_shards(points(150), "parts", 5, 15)
    data = read("parts")
    whole = replace(data.stream.source.groups, max_cached=2)
    data = replace(data, stream=replace(data.stream, source=replace(data.stream.source, groups=whole)))
    reads = []
    monkeypatch.setattr(row_groups.RowGroups, "_read", _counted(row_groups.RowGroups._read, reads))
    feed = batch_loader(data, 10, Rng(0))._read
    seen = [feed(step, slice(0, 10))["x_1"] for step in range(30)]
    every = data.modality.encode(data.values)
    for epoch in (0, 1):
        got = torch.cat(seen[15 * epoch : 15 * epoch + 15])
        assert torch.equal(got[got[:, 0].argsort()], every[every[:, 0].argsort()])
    assert len(reads) <= 2 * 10 + 8
    assert not torch.equal(seen[0], seen[15])
    again = batch_loader(data, 10, Rng(0))
    assert torch.equal(again(22, slice(0, 10))["x_1"], seen[22])
    halves = [batch_loader(data, 10, Rng(0))(22, rows)["x_1"] for rows in (slice(0, 5), slice(5, 10))]
    assert torch.equal(torch.cat(halves), seen[22])


def _counted(read, reads):
    def counted(self, number, names):
        reads.append(number)
        return read(self, number, names)

    return counted


def test_schema_has_cells_outside_the_sample(monkeypatch):
    frame = people()
    frame.loc[77, "school"], frame.loc[78, "income"], frame.loc[79, "since"] = (
        "none",
        99999.5,
        pd.Timestamp("2031-05-05"),
    )
    frame["age"] = frame["age"].fillna(30)
    frame.loc[100, "age"] = pd.NA
    write_shards(frame)
    monkeypatch.setattr(parquet_columns.ParquetCells, "sample_size", 20)
    data = read("parts")
    assert len(data) < 40
    assert data.total == 120
    every = data.take(torch.arange(120))
    cells = data.modality.cells(every.values)
    assert cells.column("school") == frame["school"].tolist()
    assert len(every) == 120


def test_sphere_shards():
    generator = np.random.default_rng(0)
    u = generator.normal(size=(60, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    write_shards(pd.DataFrame(u, columns=["x", "y", "z"]))
    data = read("parts", space="sphere")
    assert isinstance(data.modality.space(), Sphere)
    assert torch.allclose(data.take(torch.tensor([7])).values, torch.from_numpy(u[[7]]))


def test_damaged_and_different_shards_are_refused():
    write_shards(points())
    other, shard = pathlib.Path("parts/part-09.parquet"), pathlib.Path("parts/part-01.parquet")
    points().rename(columns={"b": "c"}).to_parquet(other, index=False)
    with refuses(InputError, file=str(other)):
        read("parts")
    other.unlink()
    shard.write_bytes(shard.read_bytes()[:-30])
    with refuses(InputError, file=str(shard)):
        read("parts")


@pytest.mark.parametrize(
    ("index", "column", "cell", "found"),
    [
        (90, "b", np.inf, "inf in parts/part-02.parquet: row 11, column 'b'"),
        (45, "label", None, "none in parts/part-01.parquet: row 6"),
    ],
)
def test_invalid_cells_are_refused(index, column, cell, found):
    frame = points()
    frame.loc[index, column] = cell
    write_shards(frame)
    with refuses(InputError, file="parts", found=found):
        read("parts")


def test_unsupported_options_and_empty_shards_are_refused():
    write_shards(points())
    with refuses(UsageError, argument="project"):
        read("parts", space="sphere", project=True)
    with refuses(InputError, found="columns a, b, label"):
        read("parts", vocabulary="bytes")
    pathlib.Path("empty").mkdir()
    points().iloc[:0].to_parquet("empty/a.parquet", index=False)
    with refuses(InputError, found="none"):
        read("empty")


def test_flipped_bits_give_data_or_input_error():
    write_shards(people(30), shards=1, rows=10)
    shard, generator = pathlib.Path("parts/part-00.parquet"), np.random.default_rng(0)
    content, messages = shard.read_bytes(), []
    for _ in range(16):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 3):
            damaged[place] ^= 1 << int(generator.integers(8))
        shard.write_bytes(damaged)
        try:
            batch_loader(read("parts"), 3, Rng(0))(0, slice(0, 3))
        except InputError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    assert len(messages) > 4
