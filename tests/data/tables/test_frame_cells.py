"""Cells of data frames: text depends on the cell and the column type only."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Categorical
from feller.data.tables.dataframes import from_frame, load_cells, to_frame
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import table_dataset
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_schema_search import search_schema
from feller.data.tables.schema import Schema, schema_text
from feller.data.tables.schema_detection import detect_schema
from tests.data.tables.test_private_schema_search import NoNoise
from tests.errors import refuses

DAYS = ["2020-01-01", "2021-05-05", "2023-11-30"]
BY_DAY = Datetime("t", "2019-01-01", "2024-12-31")
EXTRA_CELLS = {
    "time of day": (DAYS, "2022-03-04 05:06:07"),
    "microseconds": (["2020-01-01 10:00:00", "2021-05-05 11:30:00"], "2022-03-04 05:06:07.000008"),
    "zone": (pd.to_datetime(DAYS).tz_localize("Europe/Berlin"), pd.Timestamp("2022-03-04 05:06", tz="Europe/Berlin")),
    "missing time": (DAYS, None),
    "missing integer": ([1, 2, 30], None),
    "large integer": ([1, 2**60 + 1, 2**53 - 1], None),
    "decimals": ([1.0, 2.0], 0.25),
    "missing truth": ([True, False], None),
    "missing word": (["a", "b"], None),
}


def to_series(values: object, *, time: bool) -> pd.Series:
    return pd.Series(pd.to_datetime(values, format="ISO8601") if time else values)


@pytest.mark.parametrize(
    ("case", "from_file"),
    [(case, from_file) for case in EXTRA_CELLS for from_file in (False, True) if from_file or case != "large integer"],
)  # pandas itself loses digits of large integers
def test_extra_row_leaves_other_cells_unchanged(case: str, from_file: bool, tmp_path: pathlib.Path) -> None:
    values, extra = EXTRA_CELLS[case]
    time = isinstance(values, pd.DatetimeIndex) or str(values[0])[:4] == "2020"

    def cells(column: list) -> list[str]:
        frame = pd.DataFrame({"t": to_series(column, time=time)})
        if not from_file:
            return from_frame(frame).column("t")
        if "integer" in case:  # the file declares the type of the column
            frame = pd.DataFrame({"t": pd.array(column, dtype="Int64")})
        frame.to_parquet(tmp_path / "t.parquet")
        return cells_without_metadata(tmp_path / "t.parquet")

    assert cells([*values, extra])[:-1] == cells(list(values))


def cells_without_metadata(path: pathlib.Path) -> list[str]:
    """Read a file without the pandas metadata, as other programs write files."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata(None), path)
    return load_cells(path).column("t")


def test_cells_have_the_shortest_text() -> None:
    times = pd.to_datetime(["2020-01-01", "2020-01-01 10:00", "2020-01-01 00:00:00.5", None], format="ISO8601")
    frame = pd.DataFrame({"t": times, "f": [5.0, 0.5, np.nan, -3.0]})
    found = from_frame(frame)
    assert found.column("t") == ["2020-01-01", "2020-01-01 10:00:00", "2020-01-01 00:00:00.500000", ""]
    assert found.column("f") == ["5", "0.5", "", "-3"]


def test_date_schema_reads_times() -> None:
    frame = pd.DataFrame({"t": pd.to_datetime([*DAYS, "2021-05-05 23:59:59.9"], format="ISO8601")})
    codes = [BY_DAY.code(cell) for cell in from_frame(frame).column("t")]
    assert codes[:3] == [BY_DAY.code(day) for day in DAYS]
    assert codes[3] == codes[1]


def resampled(frame: pd.DataFrame, schema: Schema | None = None) -> pd.DataFrame:
    """Return the rows of a frame as samples of a model would be returned."""
    schema = schema or detect_schema(from_frame(frame))
    data = table_dataset(from_frame(frame), schema)
    return to_frame(data.modality.cells(data.values), schema)


def test_times_keep_the_finest_resolution() -> None:
    frame = pd.DataFrame({"t": pd.to_datetime([*DAYS, None, "2022-03-04 05:06:07"], format="ISO8601")})
    schema = detect_schema(from_frame(frame))
    (column,) = schema.columns
    assert isinstance(column, Datetime)
    assert column.format == "%Y-%m-%d %H:%M:%S"
    again = resampled(frame, schema)
    assert again.dtypes.astype(str).to_dict() == frame.dtypes.astype(str).to_dict()
    assert again["t"].isna().tolist() == frame["t"].isna().tolist()


def search(frame: pd.DataFrame) -> object:
    return search_schema(from_frame(frame), 2.0, 1e-6, NoNoise())[0]


def test_private_schema_ignores_one_missing_row() -> None:
    """Without noise, the schemas are equal although pandas has other dtypes."""
    n = 400
    full = pd.DataFrame(
        {
            "i": np.arange(n) % 90,
            "b": np.arange(n) % 2 == 0,
            "f": np.arange(n) % 9 + 0.5,
            "s": pd.Series(["x", "y"] * (n // 2)),
            "t": pd.to_datetime(["2020-01-01", "2021-05-05"] * (n // 2)),
        }
    )
    extended = pd.concat([full, pd.DataFrame({name: [None] for name in full.columns})], ignore_index=True)
    extended["t"] = pd.to_datetime(extended["t"]).astype(full["t"].dtype)
    assert str(full["i"].dtype) != str(extended["i"].dtype)
    assert str(full["b"].dtype) != str(extended["b"].dtype)
    assert search(full) == search(extended)


def test_private_schema_has_no_dtypes() -> None:
    n = 400
    frame = pd.DataFrame({"i": np.arange(n, dtype=np.int32) % 90, "f": np.arange(n) % 9 + 0.5})
    schema, *_ = search_schema(from_frame(frame), 2.0, 1e-6, NoNoise())
    assert all(isinstance(column, Numerical) and column.dtype is None for column in schema.columns)
    assert resampled(frame, schema).dtypes.astype(str).to_dict() == {"i": "int64", "f": "float64"}


def test_private_schema_ignores_one_time_of_day() -> None:
    n = 300
    days = [f"20{10 + i % 10}-03-0{1 + i % 9}" for i in range(n)]
    found = []
    for each in (days, [*days[:-1], "2015-01-01 01:02:03"]):
        found.append(search(pd.DataFrame({"t": pd.to_datetime(each, format="ISO8601")})))
    assert found[0] == found[1]


def test_categories_and_objects_round_trip() -> None:
    n = 90
    grades = pd.CategoricalDtype(["lo", "mid", "hi", "unused"], ordered=True)
    frame = pd.DataFrame(
        {
            "grade": pd.Series(["hi", "lo", "mid"] * 30, dtype=grades),
            "number": pd.Series([3, 1, 2] * 30, dtype="category"),
            "word": pd.Series(["x", "y", None] * 30, dtype="category"),
            "truth": pd.Series([True, None, False] * 30, dtype=object),
            "count": pd.Series([2, 5, None] * 30, dtype=object),
            "mixed": pd.Series([True, "yes", 2] * 30, dtype=object),
            "i": np.arange(n) % 7,
        }
    )
    pd.testing.assert_frame_equal(resampled(frame), frame, check_exact=True)
    assert [type(cell) for cell in resampled(frame)["mixed"][:3]] == [bool, str, int]
    assert [type(cell) for cell in resampled(frame)["truth"][:3]] == [bool, type(None), bool]
    assert [type(cell) for cell in resampled(frame)["count"][:2]] == [int, int]


def test_other_is_the_last_category_if_sampled() -> None:
    column = Categorical("c", ("a", "b"), "OTHER", dtype="category")
    columns = [
        to_frame(RawTable(np.array([[word] for word in words]), columns=("c",)), Schema((column,)))["c"]
        for words in ("ab", ["b", "OTHER"])
    ]
    assert [list(cell.cat.categories) for cell in columns] == [["a", "b"], ["a", "b", "OTHER"]]


def test_lists_in_cells_are_refused() -> None:
    with refuses(InputError, row=2, column="c", found="a list"):
        from_frame(pd.DataFrame({"c": pd.Series(["a", [1, 2]], dtype=object)}))


def test_insignificant_gaps_are_not_modelled() -> None:
    n = 400
    full = pd.DataFrame({"i": np.arange(n) % 90, "b": np.arange(n) % 2 == 0, "s": ["x", "y"] * (n // 2)})
    gaps = full.astype({"i": float, "b": object})
    gaps[np.arange(n) % 4 == 0] = None
    assert all(column.missing is None for column in search(full).modelled)
    assert all(column.missing == "" for column in search(gaps).modelled)
    cell = pd.concat([full, pd.DataFrame({name: [None] for name in full.columns})], ignore_index=True)
    data = table_dataset(from_frame(cell), search(cell))
    assert data.modality.frame(data.values, {}).dtypes.astype(str).to_dict() == {"i": "int64", "b": "bool", "s": "str"}


def test_private_schema_omits_unseen_categories() -> None:
    kind = pd.CategoricalDtype(["x", "y", "secret"], ordered=True)
    schema = search(pd.DataFrame({"c": pd.Series(["x", "y"] * 200, dtype=kind), "d": ["a", "b"] * 200}))
    assert "secret" not in schema_text(schema)
