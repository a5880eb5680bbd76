"""Numbers in cells: read and written alike, in every format."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.tables.number_format import NumberForm, date_format, number_form


@st.composite
def forms(draw: st.DrawFn) -> NumberForm:
    decimals = draw(st.integers(0, 4))
    point = draw(st.sampled_from(".,"))
    return NumberForm(
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
def test_what_is_written_is_read(form: NumberForm, units: int) -> None:
    cell = form.write(units)
    number = form.read(cell)
    assert number == Decimal(units).scaleb(-form.decimals)
    assert form.grid(number) == units


@pytest.mark.parametrize(
    ("form", "units", "cell"),
    [
        (NumberForm(), 1234567, "1234567"),
        (NumberForm(thousands=","), 1234567, "1,234,567"),
        (NumberForm(2), -5, "-0.05"),
        (NumberForm(2, fewest=0), 300, "3"),
        (NumberForm(2, fewest=1), 300, "3.0"),
        (NumberForm(2, fewest=0), 310, "3.1"),
        (NumberForm(2, point=",", thousands="."), 123456789, "1.234.567,89"),
        (NumberForm(width=5), 1301, "01301"),
        (NumberForm(plus=True), 3, "+3"),
        (NumberForm(plus=True), 0, "0"),
        (NumberForm(before="$"), -12, "-$12"),
        (NumberForm(1, after=" %"), 125, "12.5 %"),
    ],
)
def test_formats(form: NumberForm, units: int, cell: str) -> None:
    assert form.write(units) == cell
    assert number_form([cell]) is not None


@pytest.mark.parametrize(
    "cell", ["", "x", "1_000", "nan", "inf", "1e", "0x10", "--1", "1.2.3", "1e99999", "٣", "1,2", "+", "1,00,000"]
)
def test_words_are_no_numbers(cell: str) -> None:
    assert NumberForm(2, thousands="").read(cell) is None
    assert NumberForm(2, thousands=",").read(cell) is None


def test_other_spellings_are_read() -> None:
    form = NumberForm(2, thousands=",", before="$")
    assert [form.read(cell) for cell in ("1234.5", "$1,234.50", "1.2345e3", "$-3", "-$3", ".5", "5.")] == [
        *map(Decimal, ("1234.5", "1234.5", "1234.5", "-3", "-3", "0.5", "5"))
    ]
    assert form.grid(Decimal("-0.001")) == -1
    assert form.read("1e-40") == 0


def test_formats_are_found() -> None:
    assert number_form(["1", "2.50", "-3.125"]) == NumberForm(3, 0)
    assert number_form(["1.50", "2.25"]) == NumberForm(2)
    assert number_form(["1,234", "12"]) == NumberForm(thousands=",")
    assert number_form(["1,5", "12,25"]) == NumberForm(2, 1, point=",")
    assert number_form(["1.234,5", "12,5"]) == NumberForm(1, point=",", thousands=".")
    assert number_form(["007", "012", "999"]) == NumberForm(width=3)
    assert number_form(["+1", "-2", "0"]) == NumberForm(plus=True)
    assert number_form(["$5", "$1,000"]) == NumberForm(thousands=",", before="$")
    assert number_form(["5%", "10%"]) == NumberForm(after="%")
    assert number_form(["5%", "10"]) is None
    assert number_form(["0.1234567890123456"]) == NumberForm(12)
    assert number_form(["123456789.123456789"]) == NumberForm(8)
    assert number_form(["1", "a"]) is None


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
        (["2020-01-31T10:00:00Z"], "%Y-%m-%dT%H:%M:%SZ"),
        (["2020-01-31 10:00:00.250000"], "%Y-%m-%d %H:%M:%S.%f"),
        (["2020-01", "2021-12"], "%Y-%m"),
        (["Bachelors"], None),
        (["2020-02-30"], None),
        (["2020-01-31", "soon"], None),
    ],
)
def test_formats_of_dates_are_found(cells: list[str], form: str | None) -> None:
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
def test_wrong_formats(fields: dict) -> None:
    with pytest.raises(InputError):
        NumberForm(**fields)
