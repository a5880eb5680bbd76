"""Tables in files and data frames, and the Adult example."""

import io
import pathlib

import numpy as np
import pandas as pd
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.examples.loaders import EXAMPLES
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.points.euclidean_points import Points
from feller.data.tables.column import Categorical
from feller.data.tables.dataframes import from_frame, load_cells, to_frame
from feller.data.tables.encoding import check_columns, encode
from feller.data.tables.modality import Table, table_dataset
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema, write_schema
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.schema_lint import schema_warnings
from feller.data.text.modality import Text
from tests.data.tables.test_table_schema import WHOLE
from tests.errors import refuses

PEOPLE = 'age,job,seen\n31,nurse,2020-01-05\n?,baker,2021-03-01\n54,nurse,2020-12-24\n29,"b;d, e",2019-07-07\n'


def write_file(folder: pathlib.Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_tables_are_recognised(tmp_path: pathlib.Path) -> None:
    data = read(write_file(tmp_path, "a.csv", PEOPLE))
    assert isinstance(data.modality, Table)
    assert data.values.shape == (4, 3)
    assert "not private" in data.notes[0]
    assert isinstance(read(write_file(tmp_path, "b.tsv", PEOPLE.replace(",", "\t"))).modality, Table)
    assert isinstance(read(write_file(tmp_path, "c.csv", "x;label\n1;a\n2;b\n")).modality, Points)
    assert isinstance(read(write_file(tmp_path, "d.csv", "x,y\n1,2\n3,4\n")).modality, Points)
    assert isinstance(read(write_file(tmp_path, "e.csv", "text,n\nlong words,1\nmore of them,2\n")).modality, Text)
    with refuses(InputError, found="'four'"):
        read(write_file(tmp_path, "f.csv", "x,y\n1,2\n3,four\n5,6\n"))


def test_schema_option(tmp_path: pathlib.Path) -> None:
    schema = Schema((Numerical("x", 0.0, 9.0), Numerical("y", 0.0, 9.0, missing="")))
    write_schema(schema, tmp_path / "s.json")
    for content in ("x,y\n1,2\n3,4\n", "y,x\n1,2\n,4\n"):
        path = write_file(tmp_path, "a.csv", content)
        data = read(path, schema=str(tmp_path / "s.json"))
        assert isinstance(data.modality, Table)
        assert data.modality.schema == schema
        assert torch.equal(data.values, read(path, schema=schema).values)
        assert data.notes == ()
        assert torch.equal(read(path, like=data.modality).values, data.values)
    with refuses(UsageError, remedy="Remove these arguments"):
        read(path, schema=schema, longest=3)
    with refuses(UsageError, argument="schema"):
        read("example:digits", schema=schema)
    with refuses(InputError, file=str(tmp_path / "t" / "s.json")):
        read(path, schema=str(tmp_path / "t" / "s.json"))
    with refuses(UsageError, remedy="Remove these options"):
        read(write_file(tmp_path, "b.csv", PEOPLE), space="sphere")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("age,job\n1,a\n2\n", "row 3"),
        ("job,job\na,a\n", "'job'"),
        ("job,\na,a\n", "column 2"),
        ("age,job\n", ""),
        ("", ""),
        ('age,job\n1,"a\n', ""),
        (b"age,job\n1,\xff\n", "0xff"),
        ("1,2\n3,4\n", "1, 2"),
        ("age,job\n1,a\n2,zz\n", "'job'"),
    ],
    ids=range(9),
)
def test_damaged_tables_are_refused(content: str | bytes, place: str, tmp_path: pathlib.Path) -> None:
    path = write_file(tmp_path, "a.csv", content)
    with refuses(InputError, file=path) as caught:
        read(path, schema=Schema((Numerical("age", 0.0, 9.0),)))
    assert place in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet", "a.npz", "folder"])
def test_file_round_trip(name: str, tmp_path: pathlib.Path) -> None:
    codes = torch.stack([torch.randint(0, count, (50,)) for count in WHOLE.counts], 1)
    modality = Table(Schema(WHOLE.columns))
    modality.write(codes, {}, tmp_path / name)
    values, given = read_samples(tmp_path / name, modality)
    assert torch.equal(values, codes)
    assert given == {}


def test_states_and_records() -> None:
    digits = Schema((Numerical("n", 17.0, 90.0, edges=(50.0,), digits=True, missing="N"), *WHOLE.columns[1:2]))
    modality = Table(digits).with_marginals_of(torch.tensor([[0, 0], [73, 1], [74, 1]]))
    assert modality.marginals == ((1 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 0.0, 0.0))
    assert from_dict(Table, to_dict(modality)) == modality
    assert (modality.counts, modality.space().vocab_sizes, modality.space().tokens_per_column) == (
        (75, 4),
        (11, 10, 4),
        (2, 1),
    )
    codes = torch.cartesian_prod(torch.arange(75), torch.arange(4))
    assert torch.equal(modality.decode(modality.encode(codes)), codes)
    with refuses(InputError):
        modality.decode(torch.tensor([[1, 7, 0], [11, 0, 0]]))
    with refuses(InputError):
        modality.decode(torch.tensor([[1, 6, 0]]))
    with refuses(InputError, found="[1]"):
        Table(digits, ((1.0,),))


def test_conditions_of_adult() -> None:
    adult = read("example:adult/test").modality
    assert isinstance(adult, Table)
    assert adult.parse_cell("education", "Masters") == (3, 13)
    assert adult.parse_cell("age", "34") == (0, 3)
    assert adult.parse_condition("education", "Masters")[0].tolist() == [13]
    assert "education" in adult.conditionable_leaves
    for leaf, text, argument, found in [
        ("education", "Mastres", "education", "'Mastres'"),
        ("agee", "3", "given", "'agee'"),
        ("age", "12", "age", "'12'"),
        ("sex", "x", "sex", "'x'"),
    ]:
        with refuses(UsageError, argument=argument, found=found):
            adult.parse_condition(leaf, text)


def test_dtypes_round_trip() -> None:
    frame = pd.DataFrame(
        {
            "i": np.array([1, 2, 3, 50], dtype=np.int32),
            "m": pd.array([1, None, 3, 900], dtype="Int64"),
            "f": [0.5, 1.25, np.nan, 7.0],
            "b": [True, False, True, True],
            "nb": pd.array([True, None, False, True], dtype="boolean"),
            "t": pd.to_datetime(["2020-01-01 10:00:00", "2021-05-05", None, "2020-02-02"], format="ISO8601"),
            "d": pd.to_datetime(["2020-01-01", "2021-05-05", "2023-01-01", "2020-02-02"]),
            "c": pd.Categorical(["x", "y", None, "x"], categories=["x", "y"]),
            "s": pd.Series(["u", "v", "u", None], dtype="string"),
            "o": ["p", None, "q", "p"],
        }
    )
    found = from_frame(frame)
    schema = detect_schema(found)
    data = table_dataset(found, schema)
    reloaded = to_frame(data.modality.cells(data.values), schema)
    assert list(reloaded.columns) == list(frame.columns)
    assert reloaded.dtypes.astype(str).to_dict() == frame.dtypes.astype(str).to_dict()
    assert (reloaded.isna() == frame.isna()).to_numpy().all()
    assert torch.equal(encode(from_frame(reloaded), schema).codes, data.values)
    for name in ("b", "nb", "c", "s", "o"):
        assert reloaded[name].astype(object).fillna("-").tolist() == frame[name].astype(object).fillna("-").tolist()
    reloaded.to_parquet(io.BytesIO())


def test_invalid_frames_are_refused() -> None:
    with refuses(InputError, place="the data frame"):
        from_frame(pd.DataFrame({"a": []}))
    with refuses(InputError, place="the data frame"):
        from_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_written_cells_are_deterministic(tmp_path: pathlib.Path) -> None:
    modality = Table(Schema((Numerical("x", 0.0, 1e6, bins=2),)))
    codes = torch.zeros(100, 1, dtype=torch.int64)
    first, reloaded = modality.cells(codes), modality.cells(codes)
    assert first.values.equals(reloaded.values)
    other = modality.cells(torch.cat([codes, codes]))
    assert not first.values.equals(other.values.slice(0, 100))
    assert len({*first.column("x")}) > 90


def test_unclosed_quotes_and_foreign_schemas_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('name,job\nann,nurse\nbob,"clerk\ncyd,smith\n')
    with refuses(InputError, file=str(path)) as caught:
        load_cells(path)
    assert "line 3" in str(caught.value)
    path.write_text("name,job\n\nann,nurse\n")
    columns = tuple(Categorical(name, ("a", "b")) for name in ("age", "sex", "job"))
    assert load_cells(path).row_name(0) == "row 3"
    with refuses(InputError):
        check_columns(load_cells(path), Schema(columns))
    with refuses(InputError, argument="column", found="'name'"):
        check_columns(load_cells(path), Schema(columns[2:]))


def test_adult_example() -> None:
    train, test = read("example:adult"), read("example:adult/test")
    assert isinstance(train.modality, Table)
    assert train.modality == test.modality
    assert (train.values.shape, test.values.shape) == ((32_561, 14), (16_281, 14))
    assert train.modality.counts == (15, 9, 20, 16, 7, 15, 6, 5, 2, 11, 8, 12, 42, 2)
    assert train.values[0].tolist() == [4, 5, 3, 12, 2, 8, 3, 0, 1, 2, 0, 5, 0, 0]  # 39, State-gov, 77516, 13, ...
    assert train.values[:, -1].bincount().tolist() == [24_720, 7_841]
    assert int((train.values[:, 1] == 8).sum()) == 1_836  # work class unknown
    assert schema_warnings(train.modality.schema, len(train)) == ()
    assert torch.equal(read("example:adult/test", like=train.modality).values, test.values)
    assert EXAMPLES["adult"].info.licence == "CC BY 4.0"
    missing = train.modality.missing_tokens.tolist()  # the last of workclass, occupation and native-country
    assert {column: token for column, token in enumerate(missing) if token >= 0} == {1: 8, 5: 14, 12: 41}
