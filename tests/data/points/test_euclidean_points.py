"""Euclidean points: standardisation, file formats, columns, classes and tables of text."""

import pathlib
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawPoints
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Modality
from feller.data.points.euclidean_points import Points, points_dataset
from feller.data.points.number_tables import load_table_rows, write_table
from tests.errors import refuses

FAST = settings(deadline=None, max_examples=25, derandomize=True)
NUMBER = st.floats(-1e12, 1e12, allow_nan=False).map(lambda x: x + 0.0)
WORD = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).map(str.strip)
NAME = WORD.filter(lambda name: bool(name) and not name[0].isdigit() and name.lower() not in ("label", "class"))


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...], tuple[str, ...]]:
    columns = tuple(f"{name}!" for name in draw(st.lists(NAME, min_size=1, max_size=4, unique=True)))
    n = draw(st.integers(1, 6))
    rows = draw(st.lists(st.lists(NUMBER, min_size=len(columns), max_size=len(columns)), min_size=n, max_size=n))
    classes = tuple(sorted(draw(st.lists(NAME, max_size=3, unique=True))))
    labels = np.array([draw(st.integers(0, len(classes) - 1)) for _ in range(n)]) if classes else None
    return np.array(rows), labels, classes, columns


@FAST
@given(tables())
def test_file_round_trip(table: tuple) -> None:
    found = RawPoints(*table[:3], columns=table[3])
    data = points_dataset(found)
    assert np.array_equal(data.values.numpy(), found.values)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.npz", "a.csv", "a.tsv", "a.txt", "a.npy"):
            out = pathlib.Path(folder) / name
            data.modality.write(data.values, data.given, out)
            values, labels = read_samples(out, data.modality)
            assert torch.equal(values, data.values), name
            assert from_dict(Modality, to_dict(data.modality)) == data.modality
            if name != "a.npy":  # holds numbers only
                assert labels.keys() == data.given.keys(), name
                assert all(torch.equal(labels[key], data.given[key]) for key in labels), name
                assert read(str(out)).modality.columns == found.columns, name


@FAST
@given(tables())
def test_encoding_standardises(table: tuple) -> None:
    raw = RawPoints(*table[:3], columns=table[3])
    try:
        data = points_dataset(raw)
    except InputError:  # a span that no deviation can be computed for
        return
    state = data.modality.encode(data.values)
    assert state.dtype == torch.float32
    assert state.shape[1:] == data.modality.space().shape
    varying = torch.from_numpy(raw.values.max(0) > raw.values.min(0))
    exact = (data.values - data.values.mean(0)) / data.values.std(0, correction=0)
    close = (state.double() - exact).abs() < 1e-4 + 1e-13 * data.values.abs() / data.values.std(0, correction=0)
    assert close[:, varying].all()
    assert (state[:, ~varying] == 0).all()
    decoded = data.modality.decode(state)
    assert decoded.dtype == torch.float64
    scale = torch.tensor(data.modality.scale, dtype=torch.float64)
    assert ((decoded - data.values).abs() <= 1e-6 * scale + 1e-12 * data.values.abs()).all()


def test_constant_column_has_scale_one() -> None:
    data = points_dataset(RawPoints(np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]])))
    assert data.modality == Points(("x1", "x2"), (0.1, 3.0), (1.0, np.sqrt(8 / 3)))
    assert len(data.notes) == 1
    tiny, huge = np.array([[0.0, 0.0], [1e-200, 1e300]]).T
    data = points_dataset(RawPoints(np.stack([tiny, huge], axis=1)))
    assert data.modality.encode(data.values).tolist() == [[-1.0, -1.0], [1.0, 1.0]]


@pytest.mark.parametrize("column", [[1e308, -1e308], [5e-324, 0.0]])
def test_span_without_a_deviation_is_refused(column: list[float]) -> None:
    with refuses(InputError, column="x1"):
        points_dataset(RawPoints(np.array(column)[:, None]))


def test_files_match_columns_and_classes_of_a_model(tmp_path: pathlib.Path) -> None:
    modality = Points(("a", "b"), (0.0, 0.0), (1.0, 1.0), ("p", "q", "r"))
    (tmp_path / "t.csv").write_text("b,class,a\n1,r,2\n3,q,4\n")
    data = read(str(tmp_path / "t.csv"), like=modality)
    assert data.values.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert data.given["label"].tolist() == [2, 1]
    assert data.modality is modality
    (tmp_path / "t.csv").write_text("b,class,a\n1,z,2\n")
    with refuses(InputError, argument="class", found="'z'"):
        read(str(tmp_path / "t.csv"), like=modality)
    (tmp_path / "t.csv").write_text("b,c\n1,2\n")
    with refuses(InputError, found="b, c"):
        read_samples(tmp_path / "t.csv", modality)


def test_label_condition() -> None:
    modality = Points(("a",), (0.0,), (1.0,), ("cat", "dog"))
    assert modality.conditions == {"label": ("cat", "dog")}
    assert modality.class_index("label", "dog") == 1
    with refuses(UsageError, argument="label", found="'dig'"):
        modality.class_index("label", "dig")
    with refuses(UsageError, argument="given", found="'labels'"):
        modality.class_index("labels", "dog")
    with refuses(UsageError, found="label=dog"):
        Points(("a",), (0.0,), (1.0,)).class_index("label", "dog")


def test_labels_are_written_only_if_complete(tmp_path: pathlib.Path) -> None:
    modality = Points(("a",), (0.0,), (1.0,), ("x", "y"))
    values = torch.zeros(2, 1, dtype=torch.float64)
    assert "labels" not in modality.arrays(values, {"label": torch.tensor([1, 2])})  # 2 stands for "not given"
    modality.write(values, {"label": torch.tensor([2, 2])}, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "a\n0.0\n0.0\n"
    modality.write(values, {"label": torch.tensor([0, 1])}, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "a,label\n0.0,x\n0.0,y\n"


def test_invalid_use_is_refused(tmp_path: pathlib.Path) -> None:
    modality = Points(("a",), (0.0,), (1.0,))
    with refuses(UsageError):
        modality.write(torch.zeros(1, 1).double(), {}, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
    with refuses(InputError):
        Points(("a",), (0.0,), (0.0,))
    with refuses(InputError):
        modality.decode(torch.tensor([[0.0], [torch.nan], [torch.inf]]))


def test_text_that_parquet_cannot_store_is_refused(tmp_path: pathlib.Path) -> None:
    """Lone surrogates stand for undecodable bytes of file names."""
    pytest.importorskip("pyarrow")
    with refuses(InputError, file=str(tmp_path / "a.parquet")):
        write_table(("x", "y\udcec"), np.zeros((2, 2)), None, tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def table(folder: pathlib.Path, text: str | bytes) -> pathlib.Path:
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "columns", "values"),
    [
        ("1,2\n3,4\n", (), [[1, 2], [3, 4]]),
        ("x,y\n1,2\n", ("x", "y"), [[1, 2]]),
        ("x;y\n1;2e3\n", ("x", "y"), [[1, 2000]]),
        ("x\ty\n1\t-2\n", ("x", "y"), [[1, -2]]),
        ("\ufeffx,y\r\n1,2\r\n\r\n3,4\r\n\r\n", ("x", "y"), [[1, 2], [3, 4]]),
        ('"x;1", "y ""q"""\n 1 , 2', ("x;1", 'y "q"'), [[1, 2]]),
        ("x\n1\n\n2\n", ("x",), [[1], [2]]),
        ("0,1\n0.5,2\n", (), [[0.5, 2]]),
        ("0,1\n5,2\n", (), [[0, 1], [5, 2]]),
        ("0,label,1\n0.5,a,2\n", (), [[0.5, 2]]),
    ],
)
def test_reads_tables(tmp_path: pathlib.Path, text: str, columns: tuple[str, ...], values: list[list[float]]) -> None:
    raw = load_table_rows(table(tmp_path, text))
    assert raw.columns == columns
    assert raw.values.tolist() == values


@pytest.mark.parametrize("name", ["label", "class", "Label"])
def test_numeric_labels_are_sorted_as_numbers(tmp_path: pathlib.Path, name: str) -> None:
    raw = load_table_rows(table(tmp_path, f"x,{name},y\n1,10,2\n3,9,4\n5,b,6\n7,9,8\n"))
    assert raw.classes == ("9", "10", "b")
    assert raw.labels.tolist() == [1, 0, 2, 0]
    assert raw.columns == ("x", "y")
    assert raw.values.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


MANY_LABELS = "x,label\n" + "".join(f"1,{i / 7}\n" for i in range(200))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", ""),
        ("\n\n", ""),
        ("x,y\n", ""),
        ("x,y\n1,2\n3\n", "row 3"),
        ("x,y\n1,2\n\n3,4,5\n", "row 4"),
        ("x,y\n1,2\n3,nan\n", "row 3, column 2"),
        ("1,2\n-inf,3\n", "row 2, column 1"),
        ("x,y\n1,2\n3,\n", "row 3, column 2"),
        ("x,y\n1,1e999\n", "row 2, column 2"),
        ("x,y\n1,2\n3,Oslo\n", "column 'y', row 3"),
        ("x,y\n1,1_000\n", "column 'y', row 2"),
        ("1,2\n3,a\n", "column 2, row 2"),
        (",y\n1,2\n", "column 1"),
        ("x,x\n1,2\n", "'x'"),
        ("label,class,x\n1,2,3\n", "label"),
        ("label\na\n", "'label'"),
        ("x,label\n1,\n", "row 2"),
        ("x,label\n1,a\n2,\n", "row 3"),
        ('x,y\n1,"2\n', ""),
        ("label,x,y\na,1,inf\n", "row 2, column 3"),
        (b"x,y\n1,\xff\n", "0xff"),
        (MANY_LABELS, "200"),
    ],
    ids=range(22),
)
def test_invalid_tables_are_refused(tmp_path: pathlib.Path, text: str | bytes, place: str) -> None:
    path = table(tmp_path, text)
    with refuses(InputError, file=str(path)) as caught:
        read(str(path))
    assert place in str(caught.value)
