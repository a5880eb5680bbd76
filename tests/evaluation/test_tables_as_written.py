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
