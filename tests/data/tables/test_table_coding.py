"""Encoding and decoding of table rows, invalid cells, and partial rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.dates import Datetime
from feller.data.tables.encoding import decode, encode, fill_gaps, observed_cells
from feller.data.tables.given_cells import given_cells
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier
from tests.data.tables.test_table_schema import WHOLE
from tests.errors import refuses

AGE, SMOKES = Numerical("age", 0.0, 99.0, edges=(15.0, 30.0), missing="N"), Boolean("smokes", "yes", "no")
SCHOOL = Numerical("school", 1.0, 3.0)
SCHEMA = Schema(
    (Identifier("id"), AGE, SMOKES, Derived("title", "school", {"1": "low", "2": "high", "3": "high"}), SCHOOL),
    rules=(Constraint("age", ("< 15",), "smokes", ("no",)),),
)
CLIPS = Schema(SCHEMA.columns, "clip", rules=SCHEMA.rules)


def table(text: str, columns: str = "age,smokes,school") -> RawTable:
    rows = [line.split(",") for line in text.split()]
    return RawTable(np.array(rows, dtype=object), columns=tuple(columns.split(",")), lines=np.arange(len(rows)) + 2)


def test_known_codes() -> None:
    encoded = encode(table("7,no,1 20,yes,2 N,no,3 99,yes,3"), SCHEMA)
    assert encoded.codes.tolist() == [[0, 0, 0], [1, 1, 1], [3, 0, 2], [2, 1, 2]]
    assert encoded.codes.dtype == torch.int64
    assert encoded.outside.tolist() == [0, 0, 0]
    reordered = encode(table("1,no,7", "school,smokes,age"), SCHEMA)
    assert reordered.codes.tolist() == [[0, 0, 0]]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_decode_encode_round_trip(data: st.DataObject) -> None:
    """Codes that satisfy the rules are recovered for any uniform numbers."""
    n = 5
    drawn = [[data.draw(st.integers(0, count - 1)) for count in WHOLE.counts] for _ in range(n)]
    codes = encode(decode(torch.tensor(drawn), torch.rand(n, len(drawn[0]), dtype=torch.float64), WHOLE), WHOLE).codes
    uniforms = torch.tensor(
        [[data.draw(st.floats(0, 1, exclude_max=True)) for _ in WHOLE.counts] for _ in range(n)], dtype=torch.float64
    )
    written = decode(codes, uniforms, WHOLE)
    assert written.columns == WHOLE.names
    assert torch.equal(encode(written, WHOLE).codes, codes)
    assert written.column("id") == [f"C-{i:06d}" for i in range(1, n + 1)]
    assert written.column("note") == ["-"] * n


def test_cells_outside_the_schema_are_refused() -> None:
    for row, column, found in [
        ("130,no,1", "age", "'130'"),
        ("x,no,1", "age", "'x'"),
        ("20,maybe,1", "smokes", "'maybe'"),
        ("20,,1", "smokes", "''"),
        ("7,yes,1", None, "age = '7', smokes = 'yes'"),
    ]:
        with refuses(InputError, row=3, column=column, found=found):
            encode(table(f"20,no,1 {row}"), SCHEMA)
    with refuses(InputError, column="title", row=2, found="'low'"):
        encode(table("20,no,2,low", "age,smokes,school,title"), SCHEMA)
    assert encode(table("20,no,2.0,high", "age,smokes,school,title"), SCHEMA).codes.tolist() == [[1, 0, 1]]


def test_cells_outside_the_schema_are_clipped() -> None:
    encoded = encode(table("130,no,9 -4,no,1 x,no,1 20,no,0"), CLIPS)
    assert encoded.codes.tolist() == [[2, 0, 2], [0, 0, 0], [3, 0, 0], [1, 0, 0]]
    assert encoded.outside.tolist() == [3, 0, 2]
    assert encode(table("7,yes,1"), CLIPS).codes.tolist() == [[0, 0, 0]]
    with refuses(InputError, column="smokes", row=2, found="'maybe'"):
        encode(table("7,maybe,1"), CLIPS)
    job = Schema((Categorical("job", ("a",), other="OTHER"),), "clip")
    assert encode(table("b a", "job"), job).codes.tolist() == [[1], [0]]


def test_unknown_and_missing_columns_are_refused() -> None:
    with refuses(InputError, argument="column", found="'agee'"):
        encode(table("1,no,1", "agee,smokes,school"), SCHEMA)
    with refuses(InputError, column="school", remedy="Add the column"):
        encode(table("1,no", "age,smokes"), SCHEMA)


def test_partial_rows() -> None:
    codes, observed = observed_cells(table("7,no,1 ,yes, N,?,* *,no,2"), SCHEMA)
    assert observed.tolist() == [[True] * 3, [False, True, False], [True, False, False], [False, True, True]]
    assert codes.masked_fill(~observed, -1).tolist() == [[0, 0, 0], [-1, 1, -1], [3, -1, -1], [-1, 0, 1]]
    _, observed = observed_cells(table("20", "age"), SCHEMA)
    assert observed.tolist() == [[True, False, False]]
    codes, observed = observed_cells(table("20,low", "age,title"), SCHEMA)
    assert (codes.tolist(), observed.tolist()) == ([[1, 0, 0]], [[True, False, True]])
    for text, columns, row, found in [
        ("7,yes", "age,smokes", 2, None),
        ("130,yes", "age,smokes", 2, "'130'"),
        ("20,high", "age,title", 2, "none"),
        ("1,high", "school,title", 2, "'high'"),
        ("1,tall", "school,title", 2, "'tall'"),
        ("1,1", "age,strange", None, "'strange'"),
    ]:
        with refuses(InputError, row=row, found=found):
            observed_cells(table(text, columns), SCHEMA)


def test_only_empty_cells_are_gaps() -> None:
    schema = Schema(
        (Categorical("a", ("x",), missing="?"), Categorical("b", ("x",), missing=""), Categorical("c", ("?",)))
    )
    _, observed = observed_cells(
        RawTable(np.array([["?", "", "?"], ["", "?", ""]], dtype=object), columns=("a", "b", "c")), schema
    )
    assert observed.tolist() == [[True, False, True], [False] * 3]


def test_given_cells_keep_their_text() -> None:
    schema = Schema((*SCHEMA.columns, FreeText("note")))
    part = table("x7,23.4,?,3.0,,hello ,?,no,,low,", "id,age,smokes,school,title,note")
    codes, observed = observed_cells(part, schema)
    assert observed.tolist() == [[True, False, True], [False, True, True]]
    filled = torch.where(observed, codes, torch.tensor([[0, 1, 0], [2, 0, 0]]))
    completed = fill_gaps(part, filled, torch.zeros(2, 3, dtype=torch.float64), schema)
    assert completed.columns == schema.names
    rows = [["x7", "23.4", "yes", "high", "3.0", "hello"], ["2", "30", "no", "low", "1", ""]]
    assert completed.values.equals(RawTable(np.array(rows, dtype=object), columns=schema.names).values)


@pytest.mark.parametrize(
    ("condition", "first", "last"),
    [
        ("2023-06-30", "2023-06-30 00:00", "2023-06-30 23:59"),
        (("2023-06-01", "2023-06-03"), "2023-06-01 00:00", "2023-06-03 23:59"),
        (("2023-06-01 12:30", "2023-06-03"), "2023-06-01 12:30", "2023-06-03 23:59"),
        (("2023-06-01", "2023-06-03T08"), "2023-06-01 00:00", "2023-06-03 08:59"),
    ],
)
def test_given_days_include_all_their_times(condition: str | tuple[str, str], first: str, last: str) -> None:
    column = Datetime("at", "2023-01-01 00:00", "2023-12-31 23:59", "%Y-%m-%d %H:%M")
    ((begin, end),) = given_cells({"at": condition}, Schema((column,))).choices[0].spans
    assert column.from_units(np.array([begin, end])).to_pylist() == [first, last]


def test_given_minutes_are_cells() -> None:
    column = Datetime("at", "2023-01-01 00:00", "2023-12-31 23:59", "%Y-%m-%d %H:%M")
    cells = given_cells({"at": "2023-06-30T08:15"}, Schema((column,)))
    assert (cells.exact, len(cells.choices)) == ({"at": "2023-06-30T08:15"}, 0)
    month = Datetime("at", "2023-01", "2023-12", "%Y-%m")
    assert month.period("2023-06-30") == month.period("2023-06")
