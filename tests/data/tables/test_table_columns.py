"""Columns of tables: codes, bins, rules, invalid columns, and several rows per person."""

import datetime
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError, UsageError
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawTable, text_array
from feller.data.tables.bins import Bins, equal_starts
from feller.data.tables.column import Boolean, Categorical, ModelledColumn
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import first_of_each
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier
from feller.spaces import CategoryTokenizer, DigitTokenizer
from tests.errors import refuses

AGE = Numerical("age", 17.0, 90.0, edges=(20.0, 65.0), missing="?", also_missing=("NA",))
GAIN = Numerical("gain", 0.0, 99999.0, edges=(1000.0, 10000.0), heavy=(0.0, 5000.0))
COLUMNS = [
    AGE,
    GAIN,
    Numerical("year", 1990.0, 1995.0),
    Numerical("price", -1.5, 20.0, bins=7, form=NumberFormat(2, 0, thousands=","), missing=""),
    Numerical("income", -40.0, 250.0, edges=(0.0, 100.0), digits=True, missing="N"),
    Categorical("job", ("a", "b c"), other="OTHER", missing="?"),
    Categorical("code", ("1", "2", "9")),
    Boolean("smokes", "yes", "no", missing="-"),
    Datetime("born", "1920-01-01", "2020-12-31"),
    Datetime("seen", "1/2/2020", "12/31/2020", "%-m/%-d/%Y", edges=("3/1/2020",), missing=""),
    Datetime("month", "2019-11", "2021-02", "%Y-%m", bins=5),
    Datetime("at", "2020-01-01 00:00:00", "2020-01-03 23:59:59", "%Y-%m-%d %H:%M:%S"),
    Datetime("grown", "1999", "2020", "%Y"),
]


@settings(deadline=None, max_examples=10)
@given(st.data())
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_cells_round_trip(column: ModelledColumn, data: st.DataObject) -> None:
    u = data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4))
    codes = np.repeat(np.arange(column.num_codes), len(u))
    cells = column.cells(codes, np.tile(u, column.num_codes))
    assert [column.code(cell) for cell in cells.to_pylist()] == column.codes(cells).tolist() == codes.tolist()
    assert len(column.names) == column.num_codes
    levels = column.to_levels(codes)
    assert levels.min() >= 0
    assert levels.max() == len(column.level_names) - 1
    assert (np.diff(levels) >= 0).all()
    assert from_dict(ModelledColumn, to_dict(column)) == column


def test_numerical_codes_at_edges() -> None:
    cells = ["17", "19", "20", "19.9", "64", "65", "90", "?", "NA", ""]
    assert [AGE.code(cell) for cell in cells] == [0, 0, 1, 0, 1, 2, 2, 3, 3, 3]
    assert [AGE.code(cell) for cell in ("16.9", "90.1", "91", "x", "-")] == [None] * 5
    assert AGE.clipped(text_array(["3", "1e29", "x", "-1e29"])).tolist() == [0, 2, 3, 0]
    assert AGE.names == ("17 to 19", "20 to 64", "65 to 90", "?")
    assert GAIN.names == ("0", "0 to 999", "1000 to 9999", "5000", "10000 to 99999")
    assert [GAIN.code(cell) for cell in ("0", "1", "999", "5000", "5001", "0.0")] == [0, 1, 1, 3, 2, 0]
    assert GAIN.clipped(text_array(["x"])).tolist() == [-1]
    assert {*GAIN.cells(np.ones(500, dtype=np.int64), np.linspace(0, 0.999999, 500)).to_pylist()}.isdisjoint(
        {"0", "1000"}
    )


def test_numbers_are_uniform_within_bins() -> None:
    """The bin 20 to 64 has 45 integers, each drawn once by 45 equidistant uniforms."""
    cells = AGE.cells(np.ones(45, dtype=np.int64), (np.arange(45) + 0.5) / 45)
    assert cells.to_pylist() == [str(age) for age in range(20, 65)]


def test_digit_columns_keep_every_number() -> None:
    column = Numerical("n", 0.0, 250.0, edges=(100.0,), digits=True)
    assert column.num_codes == 251
    assert column.code("137") == 137
    assert column.to_levels(np.array([0, 99, 100, 250])).tolist() == [0, 0, 1, 1]
    assert column.field == DigitTokenizer(0, 250)
    assert Numerical("n", 0.0, 250.0, missing="").field == CategoryTokenizer(21, num_ordered=20)
    assert Datetime("d", "2020-02-01", "2020-03-01", bins=30).field == CategoryTokenizer(30, num_ordered=30)
    assert Categorical("c", ("a", "b")).field == CategoryTokenizer(2)


def test_date_resolution() -> None:
    day = Datetime("d", "2020-02-01", "2020-03-01", bins=30)
    assert day.num_codes == 30
    assert day.cells(np.arange(30), np.full(30, 0.999)).to_pylist() == [
        (datetime.date(2020, 2, 1) + datetime.timedelta(days=i)).isoformat() for i in range(30)
    ]
    assert day.code("2020-02-29 12:00:00") == 28  # as data frames write it
    assert day.clipped(text_array(["1900-01-01", "2100-01-01"])).tolist() == [0, 29]
    month = Datetime("m", "2019-11", "2020-02", "%Y-%m")
    assert month.names == ("2019-11", "2019-12", "2020-01", "2020-02")
    assert Datetime("y", "1999", "2001", "%Y").names == ("1999", "2000", "2001")


def test_categorical_and_boolean_codes() -> None:
    job = Categorical("job", ("a", "b"), other="OTHER", missing="?")
    assert [job.code(cell) for cell in ("a", "b", "z", "?", "")] == [0, 1, 2, 3, 3]
    assert Categorical("job", ("a", "other"), other="other").code("z") == 1
    assert Categorical("job", ("a", "")).code("") == 1
    assert Categorical("job", ("a",)).code("") is None
    assert Categorical("job", ("a",)).clipped(text_array(["z"])).tolist() == [-1]
    assert Categorical("job", ("a",), missing="?").clipped(text_array(["z"])).tolist() == [1]
    flag = Boolean("b", "yes", "no")
    assert [flag.code(cell) for cell in ("no", "yes", "False", "True", "maybe")] == [0, 1, 0, 1, None]


def test_unmodelled_columns() -> None:
    assert Identifier("id", "C-{####}/x").cells(3) == ["C-0001/x", "C-0002/x", "C-0003/x"]
    assert Identifier("id", first=9).cells(2) == ["9", "10"]
    assert FreeText("note").cells(2) == ["", ""]
    assert Derived("e", "n", {"1": "x", "2": "y", "3": "x"}).sources("x") == ["1", "3"]


def test_rule_conditions() -> None:
    assert AGE.matching("< 20").tolist() == [True, False, False, False]
    assert AGE.matching(">=20").tolist() == [False, True, True, False]
    assert AGE.matching("?").tolist() == [False, False, False, True]
    assert GAIN.matching("0").tolist() == [True, False, False, False, False]
    for text in ("< 15", "> 90", "40", "< 30", "<= 20", "x", "> x"):
        with refuses(InputError, column="age"):
            AGE.matching(text)
    day = Datetime("d", "2020-01-01", "2020-12-31", edges=("2020-07-01",))
    assert day.matching("< 2020-07-01").tolist() == [True, False]
    with refuses(InputError, column="d"):
        day.matching("< 2020-06-01")
    income = Numerical("i", 0.0, 30.0, digits=True)
    assert income.matching("> 12").nonzero()[0].tolist() == [*range(13, 31)]


def test_parse_code() -> None:
    assert AGE.parse_code("34") == 1
    with refuses(UsageError, argument="age", found="'200'"):
        AGE.parse_code("200")
    with refuses(UsageError, argument="j", found="'d'"):
        Categorical("j", ("a", "b c", "OTHER")).parse_code("d")


INVALID_COLUMNS = [
    lambda: Numerical("x", 2.0, 1.0),
    lambda: Numerical("x", 0.0, 9.0, edges=(3.0,), bins=2),
    lambda: Numerical("x", 0.0, 9.0, bins=0),
    lambda: Numerical("x", 0.0, 9.0, edges=(5.0, 3.0)),
    lambda: Numerical("x", 0.0, 9.0, edges=(0.0,)),
    lambda: Numerical("x", 0.0, 9.0, heavy=(10.0,)),
    lambda: Numerical("x", 0.5, 9.0),
    lambda: Numerical("x", 0.0, float("inf")),
    lambda: Numerical("x", 0.0, float("nan")),
    lambda: Categorical("x", ()),
    lambda: Categorical("x", ("a", "a")),
    lambda: Categorical("x", ("a ",)),
    lambda: Categorical("x", ("a",), missing="a"),
    lambda: Boolean("x", "a", "a"),
    lambda: Datetime("x", "2020-13-01", "2021-01-01"),
    lambda: Datetime("x", "2022-01-01", "2021-01-01"),
    lambda: Datetime("x", "1", "2", "%d"),
    lambda: Datetime("x", "2020", "2021", "%Y%z"),
    lambda: Identifier("x", "C-1"),
    lambda: Identifier("x", "{#}-{#}"),
    lambda: Derived("x", "y", {}),
]


@pytest.mark.parametrize("make", INVALID_COLUMNS, ids=range(len(INVALID_COLUMNS)))
def test_invalid_columns_are_refused(make: Callable[[], object]) -> None:
    with refuses(InputError, column="x"):
        make()


@st.composite
def some_bins(draw: st.DrawFn) -> Bins:
    numbers = draw(st.lists(st.integers(-30, 30), min_size=2, max_size=6, unique=True))
    *starts, last = sorted(numbers)
    heavy = draw(st.lists(st.integers(starts[0], last), max_size=4, unique=True))
    return Bins(tuple(starts), last, tuple(sorted(heavy)))


def codes_of(bins: Bins) -> dict[int, int]:
    numbers = np.arange(bins.starts[0], bins.last + 1)
    return dict(zip(numbers.tolist(), bins.codes(numbers).tolist(), strict=True))


@settings(deadline=None, max_examples=100)
@given(some_bins())
def test_bins_partition_the_range(bins: Bins) -> None:
    """By brute force: heavy values are alone, others share their bin, and codes ascend."""
    codes = codes_of(bins)
    assert {*codes.values()} == {*range(bins.count)}
    members = [[number for number, code in codes.items() if code == each] for each in range(bins.count)]
    for numbers in members:
        if numbers[0] in bins.heavy:
            assert len(numbers) == 1
        else:
            start = max(start for start in bins.starts if start <= numbers[0])
            end = min([*[later for later in bins.starts if later > start], bins.last + 1])
            assert numbers == [n for n in range(start, end) if n not in bins.heavy]
    firsts = [bins.span(code)[0] for code in range(bins.count)]
    assert firsts == sorted(firsts)
    assert bins.codes(np.array([bins.starts[0] - 1, bins.last + 1])).tolist() == [-1, -1]


@settings(deadline=None, max_examples=60)
@given(some_bins())
def test_draws_are_uniform_within_bins(bins: Bins) -> None:
    """A grid of 840 uniforms gives each of m members 840 / m draws, up to rounding."""
    grid = (np.arange(840) + 0.5) / 840
    for code in range(bins.count):
        drawn = bins.draw(np.full(840, code), grid)
        members = [n for n, own in codes_of(bins).items() if own == code]
        numbers, counts = np.unique(drawn, return_counts=True)
        assert numbers.tolist() == members
        assert np.abs(counts - 840 / len(members)).max() < 1


def test_equal_bins_and_invalid_bins() -> None:
    assert equal_starts(0, 99, 4) == (0, 25, 50, 75)
    assert equal_starts(5, 7, 20) == (5, 6, 7)
    for starts, last, heavy in [((), 3, ()), ((1, 1), 3, ()), ((1, 5), 3, ()), ((1,), 3, (4,)), ((1,), 3, (2, 2))]:
        with refuses(InputError):
            Bins(starts, last, heavy)
    with refuses(InputError, remedy="Use fewer decimals"):
        Bins((0,), 2**62)


SCHEMA = Schema((Identifier("who"), Categorical("drug", ("a", "b", "c"))), unit="who")
ROWS = [("7", "a"), ("7", "b"), ("3", "c"), ("7", "a"), ("9", "b"), ("3", "b")]


def table(rows: list[tuple[str, str]]) -> RawTable:
    return RawTable(np.array(rows, dtype=object), columns=("who", "drug"), lines=np.arange(2, 2 + len(rows)))


def rows(found: RawTable) -> list[tuple[str, ...]]:
    return [*zip(*map(found.column, found.columns), strict=True)]


def test_first_row_of_each_unit(tmp_path: pathlib.Path) -> None:
    found = first_of_each(table(ROWS), "who")
    assert rows(found) == [("7", "a"), ("3", "c"), ("9", "b")]
    assert found.lines.tolist() == [2, 4, 6]
    assert rows(first_of_each(table(ROWS), "row")) == ROWS
    (tmp_path / "t.csv").write_text("who,drug\n" + "".join(",".join(row) + "\n" for row in ROWS))
    data = read(str(tmp_path / "t.csv"), schema=SCHEMA)
    assert data.values[:, 0].tolist() == [0, 2, 1]
    assert any("3 of 6" in note for note in data.notes)


def test_removing_one_person_leaves_the_others() -> None:
    whole = rows(first_of_each(table(ROWS), "who"))
    for person in ("7", "3", "9"):
        fewer = rows(first_of_each(table([row for row in ROWS if row[0] != person]), "who"))
        assert fewer == [row for row in whole if row[0] != person]


@pytest.mark.parametrize(("text", "row"), [("who,drug\n7,a\n,b\n", 3), ("drug\na\nb\n", None)])
def test_rows_without_person_are_refused(text: str, row: int | None, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with refuses(InputError, file=str(path), row=row, column="who"):
        read(str(path), schema=SCHEMA)
