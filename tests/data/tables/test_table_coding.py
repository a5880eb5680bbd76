"""Cells to codes and back, rows that are outside, partial tables."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.encoding import decode, encode, fill_gaps, observed_cells
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


def test_codes() -> None:
    coded = encode(table("7,no,1 20,yes,2 N,no,3 99,yes,3"), SCHEMA)
    assert coded.codes.tolist() == [[0, 0, 0], [1, 1, 1], [3, 0, 2], [2, 1, 2]]
    assert coded.codes.dtype == torch.int64
    assert coded.outside.tolist() == [0, 0, 0]
    turned = encode(table("1,no,7", "school,smokes,age"), SCHEMA)
    assert turned.codes.tolist() == [[0, 0, 0]]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_every_kind_there_and_back(data: st.DataObject) -> None:
    """Codes that keep the rules become cells that have these codes, whatever the uniform numbers are."""
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


def test_what_is_outside_is_refused_by_row_and_column() -> None:
    for row, said in [
        ("130,no,1", "row 3, column 'age': .* found '130'"),
        ("x,no,1", "row 3, column 'age': .* found 'x'"),
        ("20,maybe,1", "row 3, column 'smokes': .* found 'maybe'"),
        ("20,,1", "row 3, column 'smokes': .* found ''. .*\"missing\""),
        ("7,yes,1", r"row 3: .*\(where age is < 15, smokes is no\); found age = '7'"),
    ]:
        with pytest.raises(InputError, match=said):
            encode(table(f"20,no,1 {row}"), SCHEMA)
    with refuses(InputError, column="title", row=2, found="'low'"):
        encode(table("20,no,2,low", "age,smokes,school,title"), SCHEMA)
    assert encode(table("20,no,2.0,high", "age,smokes,school,title"), SCHEMA).codes.tolist() == [[1, 0, 1]]


def test_what_is_outside_is_clipped_and_counted() -> None:
    coded = encode(table("130,no,9 -4,no,1 x,no,1 20,no,0"), CLIPS)
    assert coded.codes.tolist() == [[2, 0, 2], [0, 0, 0], [3, 0, 0], [1, 0, 0]]
    assert coded.outside.tolist() == [3, 0, 2]
    assert encode(table("7,yes,1"), CLIPS).codes.tolist() == [[0, 0, 0]]
    with refuses(InputError, column="smokes", row=2, found="'maybe'"):
        encode(table("7,maybe,1"), CLIPS)
    job = Schema((Categorical("job", ("a",), other="OTHER"),), "clip")
    assert encode(table("b a", "job"), job).codes.tolist() == [[1], [0]]


def test_other_columns() -> None:
    with refuses(InputError, argument="column", found="'agee'"):
        encode(table("1,no,1", "agee,smokes,school"), SCHEMA)
    with refuses(InputError, column="school", remedy="Add the column"):
        encode(table("1,no", "age,smokes"), SCHEMA)


def test_partial_tables() -> None:
    codes, kept = observed_cells(table("7,no,1 ,yes, N,?,* *,no,2"), SCHEMA)
    assert kept.tolist() == [[True] * 3, [False, True, False], [True, False, False], [False, True, True]]
    assert codes.masked_fill(~kept, -1).tolist() == [[0, 0, 0], [-1, 1, -1], [3, -1, -1], [-1, 0, 1]]
    _, kept = observed_cells(table("20", "age"), SCHEMA)
    assert kept.tolist() == [[True, False, False]]
    codes, kept = observed_cells(table("20,low", "age,title"), SCHEMA)
    assert (codes.tolist(), kept.tolist()) == ([[1, 0, 0]], [[True, False, True]])
    for row, columns, said in [
        ("7,yes", "age,smokes", "row 2: the given age and smokes violate a rule"),
        ("130,yes", "age,smokes", "row 2, column 'age': .* found '130'"),
        ("20,high", "age,title", "since several of its values .* 2, 3; found none"),
        ("1,high", "school,title", "expected the value derived from school = '1'; found 'high'"),
        ("1,tall", "school,title", "cell: expected"),
        ("1,1", "age,strange", "column: expected"),
    ]:
        with pytest.raises(InputError, match=said):
            observed_cells(table(row, columns), SCHEMA)


def test_a_word_for_missing_is_no_gap_but_an_empty_cell_always_is() -> None:
    schema = Schema(
        (Categorical("a", ("x",), missing="?"), Categorical("b", ("x",), missing=""), Categorical("c", ("?",)))
    )
    _, kept = observed_cells(
        RawTable(np.array([["?", "", "?"], ["", "?", ""]], dtype=object), columns=("a", "b", "c")), schema
    )
    assert kept.tolist() == [[True, False, True], [False] * 3]


def test_what_is_given_stays_as_written() -> None:
    schema = Schema((*SCHEMA.columns, FreeText("note")))
    part = table("x7,23.4,?,3.0,,hello ,?,no,,low,", "id,age,smokes,school,title,note")
    codes, kept = observed_cells(part, schema)
    assert kept.tolist() == [[True, False, True], [False, True, True]]
    filled = torch.where(kept, codes, torch.tensor([[0, 1, 0], [2, 0, 0]]))
    whole = fill_gaps(part, filled, torch.zeros(2, 3, dtype=torch.float64), schema)
    assert whole.columns == schema.names
    rows = [["x7", "23.4", "yes", "high", "3.0", "hello"], ["2", "30", "no", "low", "1", ""]]
    assert whole.values.equals(RawTable(np.array(rows, dtype=object), columns=schema.names).values)
