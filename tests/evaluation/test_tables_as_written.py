"""Rows that stand in the real table are counted as they are written, not by their bins."""

import numpy as np
import pytest

from feller.data.loading.raw import FoundTable
from feller.data.tables.column import Categorical
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import FreeText
from feller.evaluation.tables.cells import written_share

SCHEMA = Schema((Categorical("word", ("x", "y")), Numerical("age", 0.0, 40.0, (20.0,)), FreeText("note")))


def table(*rows: tuple[str, str, str]) -> FoundTable:
    return FoundTable(np.array(rows, dtype=object), columns=("word", "age", "note"))


def test_rows_in_the_same_bins_are_no_copies() -> None:
    real = table(("x", "10", "a"), ("y", "30", "b"))
    made = table(("x", "11", ""), ("x", "30", ""), ("y", "30.0", ""), ("y", "10", ""))
    assert written_share(made, real, SCHEMA) == pytest.approx(1 / 4)


def test_the_order_of_columns_does_not_matter() -> None:
    real = FoundTable(np.array([["30", "", "y"]], dtype=object), columns=("age", "note", "word"))
    assert written_share(table(("y", "30", "other")), real, SCHEMA) == 1.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("3", "+3.0", True),
        ("0.50", ".5", True),
        ("-0.0", "0", True),
        ("1e3", "1000", True),
        ("-2.50", "-2.5", True),
        ("1.2E-2", "0.012", True),
        ("-2", "2", False),
        ("30", "3", False),
        ("-", "0", False),
        ("1e3", "1e2", False),
    ],
)
def test_numbers_are_the_same_by_value(one: str, other: str, same: bool) -> None:
    assert written_share(table(("x", one, "")), table(("x", other, "")), SCHEMA) == float(same)


def test_cells_of_a_row_must_stand_in_one_row() -> None:
    """Each cell stands in its column of the real table, but no two of them together."""
    real = FoundTable(
        np.array([[str(i), str(i % 7), ""] for i in range(50)], dtype=object), columns=("word", "age", "note")
    )
    made = FoundTable(np.array([[str(i), str((i + 1) % 7), ""] for i in range(50)], dtype=object), columns=real.columns)
    assert written_share(made, real, SCHEMA) == 0.0
    assert written_share(real, real, SCHEMA) == 1.0
