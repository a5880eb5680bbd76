"""Detection of schemas from cells, and schema warnings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Boolean, Categorical, Column
from feller.data.tables.dates import Datetime
from feller.data.tables.encoding import encode
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical, numerical_column
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.schema_lint import detection_notes, schema_warnings
from feller.data.tables.unmodelled_columns import FreeText, Identifier, SkippedColumn
from tests.errors import refuses

N = 400


def detect_column(*cells: str, name: str = "x") -> Column:
    """Detect a column next to one of yes and no."""
    values = np.array([[cell, ("yes", "no")[i % 2]] for i, cell in enumerate(cells)], dtype=object)
    return detect_schema(RawTable(values, columns=(name, "other"))).columns[0]


def repeated(make) -> list[str]:
    return [make(i) for i in range(N)]


def test_detected_kinds() -> None:
    assert detect_column("yes", "no", "?", "yes") == Boolean("x", "yes", "no", "?")
    assert detect_column("1", "0") == Boolean("x", "1", "0")
    assert detect_column(*"abca") == Categorical("x", ("a", "b", "c"))
    assert detect_column("a", "NA", "", "", "b") == Categorical("x", ("a", "b"), missing="", also_missing=("NA",))
    assert detect_column("1", "5", "3") == Numerical("x", 0.0, 6.0, bins=7)
    assert detect_column("1.50", "null", "2.25").form == NumberFormat(2)
    assert detect_column("3", "4", "5", "6", "7", "N").missing == "N"
    assert detect_column("02139", "02140", "10001") == Categorical("x", ("02139", "02140", "10001"))
    assert detect_column("2019-05-01", "2021-07-09") == Datetime("x", "2019-05-01", "2021-07-31")
    assert detect_column("0001-01-01", "9999-12-31") == Datetime("x", "0001-01-01", "9999-12-31")
    assert detect_column("9999-12-30", "9999-12-31") == Datetime("x", "9999-12-29", "9999-12-31")
    assert detect_column("2020-01-03", "2020-01-09") == Datetime("x", "2020-01-02", "2020-01-10")
    assert detect_column(*repeated(str)) == Identifier("x")
    assert detect_column(*repeated(lambda i: f"C-{i * 7:05d}")) == Identifier("x", "C-{#####}")
    assert detect_column(*repeated(lambda i: f"{i * 7:04d}-QWX")) == Identifier("x", "ID-{###}")
    assert detect_column(*repeated(lambda i: f"Jane Doe the {i}th")) == FreeText("x")
    assert detect_column(
        *repeated(lambda i: f"word {i % 150} and so on, a text that is longer than forty letters")
    ) == FreeText("x")
    assert isinstance(detect_column(*repeated(lambda i: repr(i * 0.37))), Numerical)
    assert (
        detect_column(*(["a"] * 3000), *(f"v{i}" for i in range(1400)), *(f"v{i}" for i in range(1400))).other
        == "OTHER"
    )


def test_columns_of_missing_cells_are_skipped() -> None:
    assert detect_column("NA", "", "NA") == SkippedColumn("x")


def test_integers_that_all_differ_are_identifiers_unless_chance_explains_it() -> None:
    """Of 400 integers below 1,000, 80 pairs would be equal; of those below 10^7, 0.008."""
    rng = np.random.default_rng(0)
    assert detect_column(*map(str, rng.permutation(1000)[:N])) == Identifier("x", "{#}")
    assert detect_column(*map(str, 10_000 + rng.permutation(1000)[:N])) == Identifier("x", "{#####}")
    incomes = [str(i) for i in sorted({*rng.integers(0, 10**7, N)})]
    assert isinstance(detect_column(*incomes), Numerical)
    assert isinstance(detect_column(*(f"{i / 10:.1f}" for i in rng.permutation(1000)[:N])), Numerical)
    assert isinstance(detect_column(*map(str, rng.integers(0, 1000, N))), Numerical)


@pytest.mark.parametrize(
    ("name", "is_person"),
    [("patient", True), ("PatientID", True), ("customer_no", True), ("id", True), ("product_id", False), ("x", False)],
)
def test_columns_of_people_with_several_rows(name: str, is_person: bool) -> None:
    cells = [f"P-{i * 7 % 100:04d}" for i in range(N)]
    assert (detect_column(*cells, name=name) == Identifier(name, "P-{####}")) == is_person
    table = RawTable(np.array([[cell, "ab"[i % 2]] for i, cell in enumerate(cells)], dtype=object), columns=(name, "y"))
    assert len(detection_notes(detect_schema(table), table)) == is_person


def test_bounds_and_edges_are_not_data_values() -> None:
    rng = np.random.default_rng(0)
    skewed = [f"{value:.3f}" for value in np.exp(rng.normal(size=2000) * 2)]
    detected = detect_column(*skewed, *["0"] * 500)
    assert isinstance(detected, Numerical)
    values = np.array([*map(float, skewed)])
    assert detected.low == 0
    assert detected.high > values.max()
    assert detected.heavy == (0.0,)
    assert schema_warnings(Schema((detected,)), 2500) == ()
    shares = np.histogram(values, [0, *detected.edges, detected.high])[0] / 2000
    assert shares.max() < 0.3


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-(10**7), 10**7), min_size=2, max_size=60), st.integers(0, 3))
def test_detected_bounds_contain_all_numbers(numbers: list[int], decimals: int) -> None:
    cells = [NumberFormat(decimals).write(number) for number in numbers]
    values = np.array([[cell, "ab"[i % 2]] for i, cell in enumerate(cells)], dtype=object)
    found = RawTable(values, columns=("x", "y"))
    schema = detect_schema(found)
    encode(found, schema)
    detected = schema.columns[0]
    if isinstance(detected, Numerical):
        scaled = [number / 10**decimals for number in numbers if number]
        assert not {detected.low, detected.high} & {*scaled}


def test_tables_without_modelled_columns_are_refused() -> None:
    with refuses(InputError):
        detect_schema(RawTable(np.array([["NA"], [""]], dtype=object), columns=("x",)))
    with refuses(InputError):
        detect_schema(RawTable(np.array([[str(i)] for i in range(30)], dtype=object), columns=("i",)))


@pytest.mark.parametrize(
    ("column", "word"),
    [
        (Numerical("x", 17.000342, 90.0, form=NumberFormat(6)), "17.000342"),
        (Numerical("x", 0.0, 1000.0, edges=(123.45,), form=NumberFormat(2)), "123.45"),
        (Numerical("x", 0.0, 1000.0, edges=tuple(map(float, range(1, 300)))), "299"),
        (Categorical("x", tuple(f"v{i}" for i in range(600))), "600"),
        (Categorical("x", ("a@b.org", "c@d.com", "e@f.net")), "a@b.org"),
        (Categorical("x", tuple(f"Jane D{c}e" for c in "abcdefghijklmnop")), "names"),
        (Categorical("x", tuple(f"0171-{i:06d}" for i in range(15))), "numbers"),
        (Categorical("last_name", ("a", "b")), "names"),
        (FreeText("x", "-"), "'-'"),
    ],
)
def test_schema_warnings(column: Column, word: str) -> None:
    warnings = schema_warnings(Schema((column, Boolean("b"))), 1000)
    assert any(word in warning and column.name in warning for warning in warnings), warnings


def test_valid_schema_has_no_warnings() -> None:
    good = Schema(
        (
            Numerical("age", 17.0, 90.0, edges=(20.0, 65.0)),
            Numerical("gain", 0.0, 99999.0, edges=(1.0, 1500.0, 10000.0)),
            Numerical("lat", 32.5, 42.0, edges=(33.88, 37.0), form=NumberFormat(2)),
            Categorical("state", ("New York", "New Jersey", "Texas")),
            Datetime("d", "1990-01-01", "2020-12-31"),
            Identifier("id"),
        )
    )
    assert schema_warnings(good, 10_000) == ()


def test_numbers_with_too_many_digits_are_refused() -> None:
    with refuses(InputError, column="x"):
        numerical_column("x", np.array([10, 20, -(2**62), 75]), np.ones(4, dtype=np.int64), NumberFormat(decimals=1))
