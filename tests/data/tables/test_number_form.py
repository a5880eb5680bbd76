"""Number and date formats: reading, writing and detection, by cell and by column."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable, text_array
from feller.data.tables.column import Boolean, Categorical, ModelledColumn
from feller.data.tables.dataframes import text_cells
from feller.data.tables.dates import Datetime, read_times, time_in, write_time, write_times
from feller.data.tables.number_format import NumberFormat, date_format, detect_number_format, not_numbers
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema_detection import _cell_class, cell_classes
from tests.errors import refuses


@st.composite
def forms(draw: st.DrawFn) -> NumberFormat:
    decimals = draw(st.integers(0, 4))
    point = draw(st.sampled_from(".,"))
    return NumberFormat(
        decimals,
        draw(st.none() | st.integers(0, decimals)),
        point,
        draw(st.sampled_from(["", "'", " ", "," if point == "." else "."])),
        draw(st.sampled_from([0, 0, 3])),
        draw(st.booleans()),
        draw(st.sampled_from(["", "$", "€ "])),
        draw(st.sampled_from(["", "%", " kg"])),
    )


@settings(deadline=None, max_examples=300)
@given(form=forms(), units=st.integers(-(10**9), 10**9))
def test_number_round_trip(form: NumberFormat, units: int) -> None:
    cell = form.write(units)
    number = form.read(cell)
    assert number == Decimal(units).scaleb(-form.decimals)
    assert form.grid(number) == units


@pytest.mark.parametrize(
    ("form", "units", "cell"),
    [
        (NumberFormat(), 1234567, "1234567"),
        (NumberFormat(thousands=","), 1234567, "1,234,567"),
        (NumberFormat(2), -5, "-0.05"),
        (NumberFormat(2, fewest=0), 300, "3"),
        (NumberFormat(2, fewest=1), 300, "3.0"),
        (NumberFormat(2, fewest=0), 310, "3.1"),
        (NumberFormat(2, point=",", thousands="."), 123456789, "1.234.567,89"),
        (NumberFormat(width=5), 1301, "01301"),
        (NumberFormat(plus=True), 3, "+3"),
        (NumberFormat(plus=True), 0, "0"),
        (NumberFormat(before="$"), -12, "-$12"),
        (NumberFormat(1, after=" %"), 125, "12.5 %"),
    ],
)
def test_written_numbers(form: NumberFormat, units: int, cell: str) -> None:
    assert form.write(units) == cell
    assert detect_number_format([cell]) is not None


@pytest.mark.parametrize(
    "cell", ["", "x", "1_000", "nan", "inf", "1e", "0x10", "--1", "1.2.3", "1e99999", "٣", "1,2", "+", "1,00,000"]
)
def test_non_numbers(cell: str) -> None:
    assert NumberFormat(2, thousands="").read(cell) is None
    assert NumberFormat(2, thousands=",").read(cell) is None


def test_lenient_spellings() -> None:
    form = NumberFormat(2, thousands=",", before="$")
    assert [form.read(cell) for cell in ("1234.5", "$1,234.50", "1.2345e3", "$-3", "-$3", ".5", "5.")] == [
        *map(Decimal, ("1234.5", "1234.5", "1234.5", "-3", "-3", "0.5", "5"))
    ]
    assert form.grid(Decimal("-0.001")) == -1
    assert form.read("1e-40") == 0


def test_number_formats_are_detected() -> None:
    assert detect_number_format(["1", "2.50", "-3.125"]) == NumberFormat(3, 0)
    assert detect_number_format(["1.50", "2.25"]) == NumberFormat(2)
    assert detect_number_format(["1,234", "12"]) == NumberFormat(thousands=",")
    assert detect_number_format(["1,5", "12,25"]) == NumberFormat(2, 1, point=",")
    assert detect_number_format(["1.234,5", "12,5"]) == NumberFormat(1, point=",", thousands=".")
    assert detect_number_format(["007", "012", "999"]) == NumberFormat(width=3)
    assert detect_number_format(["+1", "-2", "0"]) == NumberFormat(plus=True)
    assert detect_number_format(["$5", "$1,000"]) == NumberFormat(thousands=",", before="$")
    assert detect_number_format(["5%", "10%"]) == NumberFormat(after="%")
    assert detect_number_format(["5%", "10"]) is None
    assert detect_number_format(["0.1234567890123456"]) == NumberFormat(12)
    assert detect_number_format(["123456789.123456789"]) == NumberFormat(8)
    assert detect_number_format(["1", "a"]) is None


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["2020-01-31", "1999-12-01"], "%Y-%m-%d"),
        (["31.01.2020", "01.02.2020"], "%d.%m.%Y"),
        (["12/31/2020", "01/02/2020"], "%m/%d/%Y"),
        (["31/12/2020", "01/02/2020"], "%d/%m/%Y"),
        (["1/2/2020", "12/31/2020"], "%-m/%-d/%Y"),
        (["3 Jan 2020", "13 Feb 2021"], "%-d %b %Y"),
        (["2020-01-31 10:00:00", "2020-01-31 23:59:59"], "%Y-%m-%d %H:%M:%S"),
        ([f"2020-01-3{i % 2} {i:02d}:{i}5:00" for i in range(5)], "%Y-%m-%d %H:%M:00"),
        ([f"2020-01-3{i % 2}T{i:02d}:00:00" for i in range(5)], "%Y-%m-%dT%H:00:00"),
        ([f"{i}/31/2020 {i}:00" for i in (1, 3, 5, 10, 12)], "%-m/%-d/%Y %-H:00"),
        ([f"2020-01-0{i} 00:00:00.000000" for i in range(1, 6)], "%Y-%m-%d 00:00:00.000000"),
        (["2020-01-31T10:00:00Z"], "%Y-%m-%dT%H:%M:%SZ"),
        (["2020-01-31 10:00:00.250000"], "%Y-%m-%d %H:%M:%S.%f"),
        (["2020-01", "2021-12"], "%Y-%m"),
        (["Bachelors"], None),
        (["2020-02-30"], None),
        (["2020-01-31", "soon"], None),
    ],
)
def test_date_formats_are_detected(cells: list[str], form: str | None) -> None:
    found = date_format(cells)
    assert (found and found[0]) == form


@pytest.mark.parametrize(
    "fields",
    [
        {"decimals": 13},
        {"decimals": 1, "fewest": 2},
        {"point": ";"},
        {"thousands": "."},
        {"width": 19},
        {"before": "1"},
        {"after": "-"},
    ],
)
def test_invalid_formats_are_refused(fields: dict) -> None:
    with refuses(InputError):
        NumberFormat(**fields)


SIGNS = st.text("0123456789+-.,' e$%€N", max_size=12)
WORDS = ["", "0", "0 ", " 0", "5 %", "5% ", "$ 5", "-$5", "$-5", "-0", "17", "+17", "1e2", "1e-9", "9" * 30]
WORDS += ["9" * 18 + ".5", "-0.001", ".5", "5.", "- 5", "１", "nan"]
FORMATS = ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%-m/%-d/%Y"]
FORMATS += ["%b %d, %Y", "%Y-%m", "%Y"]
TIMES = st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31))


@settings(deadline=None, max_examples=150)
@given(forms(), st.lists(SIGNS, max_size=6), st.lists(st.integers(-(10**12), 10**12), max_size=6))
def test_columns_of_numbers_equal_single_cells(form: NumberFormat, texts: list[str], units: list[int]) -> None:
    written = form.texts(np.array(units, dtype=np.int64)).to_pylist()
    assert written == [form.write(number) for number in units]
    cells = [*texts, *written, *WORDS, *(f"{form.before}{word}{form.after}" for word in WORDS)]
    found = form.parse(text_array(cells))
    for i, cell in enumerate(cells):
        number = form.read(cell)
        assert found.valid[i] == (number is not None), cell
        if number is not None and abs(form.grid(number)) < 2**62:
            assert (found.units[i], found.exact[i]) == (form.grid(number), number == form.grid(number) * unit(form)), (
                cell
            )
            assert found.behind[i] == max(0, -int(number.as_tuple().exponent)), cell


def unit(form: NumberFormat) -> Decimal:
    return Decimal(1).scaleb(-form.decimals)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(FORMATS), st.lists(TIMES, min_size=1, max_size=5), st.lists(st.text("0123456789-: .T", max_size=20))
)
def test_columns_of_times_equal_single_cells(form: str, times: list[datetime.datetime], texts: list[str]) -> None:
    written = write_times(np.array(times, dtype="M8[us]"), form).to_pylist()
    assert written == [write_time(when, form) for when in times]
    iso = [when.isoformat(sep) for when in times for sep in "T "]
    cells = [
        *written,
        *iso,
        *texts,
        "2020-02-30",
        "2020-13-01",
        "0000-01-01",
        "2020-01-01 24:00:00",
        "2020-1-1",
        "",
        "x",
    ]
    found = read_times(text_array(cells), form)
    assert found.tolist() == [time_in(cell, form) for cell in cells]


COLUMNS: list[ModelledColumn] = [
    Numerical(
        "n", -5.0, 90.5, edges=(0.0, 20.5), heavy=(0.0, 7.5), form=NumberFormat(1), missing="?", also_missing=("NA",)
    ),
    Numerical("d", 0.0, 99.0, digits=True),
    Categorical("w", ("a", "b"), other="else", missing=""),
    Categorical("v", ("a", "", "b")),
    Boolean("b", "yes", "no", missing="?"),
    Datetime("t", "2020-01-01", "2020-12-31", missing="never"),
]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["", "?", "NA", "a", "else", "yes", "True", "2020-05-05", "never", "90.51"]) | SIGNS))
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_codes_of_columns_equal_single_cells(column: ModelledColumn, cells: list[str]) -> None:
    codes = [-1 if code is None else code for code in map(column.code, cells)]
    assert column.codes(text_array(cells)).tolist() == codes


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.floats()
        | st.floats(-1e6, 1e6)
        | st.floats(-1e17, 1e17)
        | st.floats(-1e-2, 1e-2)
        | st.integers(-(2**60), 2**60).map(float),
        min_size=1,
    )
)
def test_floats_equal_repr(values: list[float]) -> None:
    expected = [repr(value).removesuffix(".0") if value == value else "" for value in values]
    assert text_cells(pd.Series(values)).to_pylist() == expected


@settings(deadline=None, max_examples=60)
@given(st.lists(SIGNS, unique=True))
def test_cell_classes_equal_single_cells(cells: list[str]) -> None:
    cells = list(
        dict.fromkeys([*cells, *WORDS, "007", "1,234", "1,5", "-1,234.5", "2020-01-31", "31.01.2020", "word", "NA"])
    )
    found = RawTable(np.array(cells, dtype=object)[:, None], columns=("x",)).factorize("x")
    assert cell_classes(found) == [_cell_class(cell) for cell in cells]


def test_words_among_numbers() -> None:
    numbers = [str(i) for i in range(100)]
    assert not_numbers(text_array([*numbers, "none"]), 2) == ["none"]
    assert not_numbers(text_array([*numbers, "1,5", "$3"]), 2) == []
    assert not_numbers(text_array([*numbers, "a", "b", "c"]), 2) == ["a", "b"]


def test_factorize_keeps_order() -> None:
    words = RawTable(np.array([["b"], ["a"], ["b"], [""]], dtype=object), columns=("x",)).factorize("x")
    assert (words.uniques.to_pylist(), words.codes.tolist(), words.counts.tolist()) == (
        ["b", "a", ""],
        [0, 1, 0, 2],
        [2, 1, 1],
    )
    assert words.is_in(("", "b")).tolist() == [True, False, True]
