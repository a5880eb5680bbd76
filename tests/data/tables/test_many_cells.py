"""What is read and written of many cells at once is what is read and written of each by itself."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.data.loading.raw import FoundTable, text_array
from feller.data.tables.column import Boolean, Categorical, Modelled
from feller.data.tables.dataframes import text_cells
from feller.data.tables.dates import Datetime, read_times, time_in, write_time, write_times
from feller.data.tables.detect_schema import _look, looks_of
from feller.data.tables.number_format import NumberForm, not_numbers
from feller.data.tables.numerical import Numerical
from tests.data.tables.test_number_form import forms

SIGNS = st.text("0123456789+-.,' e$%€N", max_size=12)
WORDS = [
    "",
    "0",
    "0 ",
    " 0",
    "5 %",
    "5% ",
    "$ 5",
    "-$5",
    "$-5",
    "-0",
    "17",
    "+17",
    "1e2",
    "1e-9",
    "9" * 30,
    "9" * 18 + ".5",
    "-0.001",
    ".5",
    "5.",
    "- 5",
    "１",
    "nan",
]
FORMATS = (
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%-m/%-d/%Y",
    "%b %d, %Y",
    "%Y-%m",
    "%Y",
)
TIMES = st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31))


@settings(deadline=None, max_examples=150)
@given(forms(), st.lists(SIGNS, max_size=6), st.lists(st.integers(-(10**12), 10**12), max_size=6))
def test_numbers(form: NumberForm, odd: list[str], units: list[int]) -> None:
    written = form.texts(np.array(units, dtype=np.int64)).to_pylist()
    assert written == [form.write(number) for number in units]
    cells = [*odd, *written, *WORDS, *(f"{form.before}{word}{form.after}" for word in WORDS)]
    found = form.parsed(text_array(cells))
    for i, cell in enumerate(cells):
        number = form.read(cell)
        assert found.valid[i] == (number is not None), cell
        if number is not None and abs(form.grid(number)) < 2**62:
            assert (found.units[i], found.exact[i]) == (form.grid(number), number == form.grid(number) * unit(form)), (
                cell
            )
            assert found.behind[i] == max(0, -int(number.as_tuple().exponent)), cell  # pyrefly: ignore


def unit(form: NumberForm) -> Decimal:
    return Decimal(1).scaleb(-form.decimals)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(FORMATS), st.lists(TIMES, min_size=1, max_size=5), st.lists(st.text("0123456789-: .T", max_size=20))
)
def test_times(form: str, times: list[datetime.datetime], odd: list[str]) -> None:
    written = write_times(np.array(times, dtype="M8[us]"), form).to_pylist()
    assert written == [write_time(when, form) for when in times]
    iso = [when.isoformat(sep) for when in times for sep in "T "]
    cells = [*written, *iso, *odd, "2020-02-30", "2020-13-01", "0000-01-01", "2020-01-01 24:00:00", "2020-1-1", "", "x"]
    found = read_times(text_array(cells), form)
    assert found.tolist() == [time_in(cell, form) for cell in cells]


COLUMNS: list[Modelled] = [
    Numerical(
        "n", -5.0, 90.5, edges=(0.0, 20.5), heavy=(0.0, 7.5), form=NumberForm(1), missing="?", also_missing=("NA",)
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
def test_codes(column: Modelled, cells: list[str]) -> None:
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
def test_floats_of_frames(values: list[float]) -> None:
    told = [repr(value).removesuffix(".0") if value == value else "" for value in values]
    assert text_cells(pd.Series(values)).to_pylist() == told


@settings(deadline=None, max_examples=60)
@given(st.lists(SIGNS, unique=True))
def test_looks(cells: list[str]) -> None:
    cells = list(
        dict.fromkeys([*cells, *WORDS, "007", "1,234", "1,5", "-1,234.5", "2020-01-31", "31.01.2020", "word", "NA"])
    )
    found = FoundTable(np.array(cells, dtype=object)[:, None], columns=("x",)).words("x")
    assert looks_of(found) == [_look(cell) for cell in cells]


def test_the_one_word_among_numbers() -> None:
    numbers = [str(i) for i in range(100)]
    assert not_numbers(text_array([*numbers, "none"]), 2) == ["none"]
    assert not_numbers(text_array([*numbers, "1,5", "$3"]), 2) == []
    assert not_numbers(text_array([*numbers, "a", "b", "c"]), 2) == ["a", "b"]


def test_words_come_in_their_order() -> None:
    words = FoundTable(np.array([["b"], ["a"], ["b"], [""]], dtype=object), columns=("x",)).words("x")
    assert (words.words.to_pylist(), words.places.tolist(), words.counts.tolist()) == (
        ["b", "a", ""],
        [0, 1, 0, 2],
        [2, 1, 1],
    )
    assert words.which(("", "b")).tolist() == [True, False, True]
