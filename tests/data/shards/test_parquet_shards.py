"""Parquet shards: points, tables and texts as one file would give them, a few row groups in memory at a time."""

import decimal
import pathlib
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
from feller.data.points.columns import columns_in_order
from feller.data.shards import parquet_columns, row_groups
from feller.data.shards.row_groups import make_groups
from feller.spaces import Sphere
from tests.errors import refuses


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_groups.cache_clear()
    return tmp_path


def write(frame: pd.DataFrame, folder: str, shards: int = 3, rows: int = 16) -> None:
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


@pytest.mark.parametrize(("frame", "what"), [(points(), "rows of numbers"), (people(), "a table")])
def test_shards_are_read_as_one_file_is(frame, what):
    write(frame, "parts")
    frame.to_parquet("whole.parquet", index=False)
    ours, theirs = read("parts"), read("whole.parquet")
    assert ours.modality.display_name == what
    assert ours.modality == theirs.modality
    assert torch.equal(ours.values, theirs.values)
    mixed = torch.tensor([119, 3, 60, 4])
    assert torch.equal(ours.take(mixed).values, theirs.subset(mixed).values)
    (train, kept), (other, aside) = split(ours), split(theirs)
    assert torch.equal(kept.values, aside.values)
    one, two = batch_loader(train, 9, Rng(1)), batch_loader(other, 9, Rng(1))
    for step in (0, 11, 12, 40):
        a, b = one(step, slice(0, 9)), two(step, slice(0, 9))
        assert torch.equal(a["x_1"], b["x_1"])
        assert a["given"].keys() == b["given"].keys()
        assert all(torch.equal(a["given"][name], b["given"][name]) for name in a["given"])


def test_texts_are_the_column_that_is_called_so():
    texts = [f"text number {i}" for i in range(60)]
    texts[41] = "with a Ω and much longer than all of the others"
    write(pd.DataFrame({"text": texts, "label": ["a", "b"] * 30, "url": texts}), "parts")
    data = read("parts")
    assert data.modality.texts(data.take(torch.tensor([41, 0])).values) == [texts[41], texts[0]]
    assert data.modality.classes == ("a", "b")
    assert any("left out the columns url" in note for note in data.notes)


def test_missing_texts_are_left_out_of_the_numbers_as_one_file_leaves_them_out():
    texts = [f"text number {i}" if i % 3 else None for i in range(60)]
    texts[7] = "  "
    frame = pd.DataFrame({"text": texts, "label": ["a", "b", "c", "d"] * 15})
    write(frame, "parts")
    frame[[bool(text and text.strip()) for text in texts]].to_csv("whole.csv", index=False)
    ours, theirs = read("parts"), read("whole.csv", vocabulary="characters")
    assert ours.total == len(theirs) == 39
    every = ours.take(torch.arange(39))
    assert torch.equal(every.values, theirs.values)
    assert torch.equal(every.given["label"], theirs.given["label"])
    assert any(note == "left out 21 empty texts, the first is parts/part-00.parquet: row 1" for note in ours.notes)
    (train, kept), (other, aside) = split(ours), split(theirs)
    assert torch.equal(kept.values, aside.values)
    one, two = batch_loader(train, 7, Rng(1)), batch_loader(other, 7, Rng(1))
    for step in range(8):
        a, b = one(step, slice(0, 7)), two(step, slice(0, 7))
        assert torch.equal(a["x_1"], b["x_1"])
        assert torch.equal(a["given"]["label"], b["given"]["label"])


def test_texts_that_are_all_missing_are_told():
    write(pd.DataFrame({"text": ["", None, " "] * 8}), "parts")
    with pytest.raises(InputError, match=r"part-00\.parquet.*column 'text': expected at least one nonempty text"):
        read("parts")


TYPES = {
    "binary": pa.array([b"\xff\xfe"] * 20),
    "struct": pa.array([{"a": 1, "b": "x"}] * 20),
    "list": pa.array([[1.0, 2.0]] * 20),
    "duration": pa.array([3] * 20, pa.duration("s")),
    "uuid": pa.array([b"x" * 16] * 20, pa.uuid()),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_that_are_no_cells_are_told_with_their_column(name):
    values = TYPES[name]
    pathlib.Path("parts").mkdir()
    pq.write_table(pa.table({"what": values, "word": ["a", "b"] * 10}), "parts/a.parquet")
    with refuses(InputError, column="what"):
        read("parts")
    pq.write_table(pa.table({"text": values, "x": np.arange(20)}), "parts/a.parquet")
    with refuses(InputError, column="text"):
        read("parts")
    pq.write_table(pa.table({"label": values, "x": np.arange(20.0)}), "parts/a.parquet")
    with refuses(InputError, column="label"):
        read("parts")


def test_a_column_beside_the_texts_may_be_of_any_type():
    pathlib.Path("parts").mkdir()
    pq.write_table(pa.table({"text": ["a", "bc"] * 10, "what": TYPES["struct"]}), "parts/a.parquet")
    assert read("parts").total == 20


def test_words_in_a_dictionary_and_all_that_has_cells_are_read_as_one_file_is(monkeypatch):
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
    ours, theirs = read("parts"), read("whole.parquet")
    assert ours.modality == theirs.modality
    assert torch.equal(ours.take(torch.arange(n).flip(0)).values.flip(0), theirs.values)
    monkeypatch.setattr(parquet_columns.ParquetCells, "sample_size", 4)
    few = read("parts")
    assert few.modality.cells(few.take(torch.arange(n)).values).column("word") == [*(["red", "green", "blue", ""] * 10)]


def test_texts_in_a_dictionary_are_read_unless_they_would_fill_the_memory():
    pathlib.Path("parts").mkdir()
    words = pa.array(["to be", "or not"] * 10).dictionary_encode()
    pq.write_table(pa.table({"text": words}), "parts/a.parquet")
    assert read("parts").total == 20
    large = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4_000, dtype=np.int32)), pa.array(["a" * 2**19]))
    pq.write_table(pa.table({"text": large}), "parts/a.parquet")
    with pytest.raises(InputError, match=r"would expand to 2\.0 GiB"):
        read("parts")


def test_many_columns_take_time_in_proportion():
    """Looking a name up in all others, 8,000 times over, would take some 40 million comparisons each time."""
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


def test_rows_come_once_an_epoch_from_few_groups_at_a_time(monkeypatch):
    """Two groups of ten are held; an order goes through all ten, two by two, in another way each epoch."""
    write(points(150), "parts", 5, 15)
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
    assert len(reads) <= 2 * 10 + 8  # each group about once an epoch, and not once a batch
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


def test_cells_that_the_sample_lacks_are_in_the_schema(monkeypatch):
    frame = people()
    frame.loc[77, "school"], frame.loc[78, "income"], frame.loc[79, "since"] = (
        "none",
        99999.5,
        pd.Timestamp("2031-05-05"),
    )
    frame["age"] = frame["age"].fillna(30)
    frame.loc[100, "age"] = pd.NA
    write(frame, "parts")
    monkeypatch.setattr(parquet_columns.ParquetCells, "sample_size", 20)
    data = read("parts")
    assert len(data) < 40
    assert data.total == 120
    every = data.take(torch.arange(120))
    cells = data.modality.cells(every.values)
    assert cells.column("school") == frame["school"].tolist()
    assert len(every) == 120


def test_places_on_a_sphere_keep_their_space():
    generator = np.random.default_rng(0)
    u = generator.normal(size=(60, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    write(pd.DataFrame(u, columns=["x", "y", "z"]), "parts")
    data = read("parts", space="sphere")
    assert isinstance(data.modality.space(), Sphere)
    assert torch.allclose(data.take(torch.tensor([7])).values, torch.from_numpy(u[[7]]))


def test_columns_that_differ_are_told():
    write(points(), "parts")
    points().rename(columns={"b": "c"}).to_parquet("parts/part-09.parquet", index=False)
    with pytest.raises(InputError, match=r"part-09\.parquet: expected the columns of the first shard, a \(double\), b"):
        read("parts")


def test_damage_is_told_with_its_shard():
    write(points(), "parts")
    shard = pathlib.Path("parts/part-01.parquet")
    shard.write_bytes(shard.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"part-01\.parquet: cannot be read as parquet"):
        read("parts")


def test_a_number_that_is_none_is_told_with_its_row(monkeypatch):
    frame = points()
    frame.loc[90, "b"] = np.inf
    write(frame, "parts")
    with pytest.raises(InputError, match=r"found inf in .*part-02\.parquet: row 11, column 'b'"):
        read("parts")


def test_a_row_without_a_class_is_told():
    frame = points()
    frame.loc[45, "label"] = None
    write(frame, "parts")
    with pytest.raises(InputError, match=r"expected a value for label; found none in .*part-01\.parquet: row 6"):
        read("parts")


def test_what_shards_cannot_do_is_refused():
    write(points(), "parts")
    with refuses(UsageError, argument="project"):
        read("parts", space="sphere", project=True)
    with pytest.raises(InputError, match="column called 'text'"):
        read("parts", vocabulary="bytes")
    pathlib.Path("empty").mkdir()
    points().iloc[:0].to_parquet("empty/a.parquet", index=False)
    with refuses(InputError, found="none"):
        read("empty")


def test_bits_that_flip_are_told_or_do_no_harm():
    write(people(30), "parts", 1, 10)
    shard, generator = pathlib.Path("parts/part-00.parquet"), np.random.default_rng(0)
    content, told = shard.read_bytes(), []
    for _ in range(16):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 3):
            damaged[place] ^= 1 << int(generator.integers(8))
        shard.write_bytes(damaged)
        try:
            batch_loader(read("parts"), 3, Rng(0))(0, slice(0, 3))
        except InputError as error:
            told.append(str(error))
    assert not any("\n" in line for line in told)
    assert len(told) > 4
