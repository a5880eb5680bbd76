"""What reading loses of a table is measured on its cells, where comparisons of codes see nothing."""

import numpy as np
import torch

from feller.data.loading.raw import FoundTable
from feller.data.tables.column import Categorical
from feller.data.tables.encoding import encode
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Untold
from feller.evaluation.tables.cells import cells_lost

WORD = Categorical("word", ("x", "y"), None, "", ("?",))
AGE = Numerical("age", 0.0, 40.0, (20.0,))
REAL = FoundTable(
    np.array([["x", "10", "s"], ["z", "70", "s"], ["w", "90", ""], ["?", "30", "s"]], dtype=object),
    columns=("word", "age", "hidden"),
)


def test_words_that_the_schema_does_not_know_are_not_empty_in_the_real_table() -> None:
    """Of eight learned cells one is empty as written; two words and two numbers are clipped, two of them to empty."""
    schema = Schema((WORD, AGE, Untold("hidden")), "clip")
    codes = encode(REAL, schema).codes  # real rows as they are read: a perfect sample of what is left of them
    assert cells_lost(codes, REAL, schema) == {
        "empty": 3 / 8,
        "empty_real": 1 / 8,
        "clipped": 4 / 8,
        "clipped_max": 2 / 4,
        "clipped_worst": "word",
        "merged": 0.0,
        "cells_real": 8,
        "left_out": "hidden",
    }


def test_the_last_code_of_a_column_without_gaps_is_no_empty_cell() -> None:
    schema = Schema((WORD, AGE), "clip")
    real = FoundTable(REAL.values.select(["word", "age"]), columns=("word", "age"))
    found = cells_lost(torch.tensor([[0, 1], [1, 1]]), real, schema)
    assert found["empty"] == 0


def test_nothing_is_measured_where_nothing_can_be_lost() -> None:
    schema = Schema((WORD, AGE), "refuse")
    assert cells_lost(torch.tensor([[0, 1]]), REAL, schema) == {}
    assert cells_lost(torch.tensor([[0, 1]]), None, Schema((WORD, AGE, Untold("hidden")), "clip")) == {
        "left_out": "hidden"
    }


def test_words_that_are_merged_are_counted_and_told() -> None:
    """Of eight cells two words are not listed; neither a missing one nor the word for all others counts."""
    schema = Schema((Categorical("word", ("x",), "OTHER", "", ("?",)), AGE, Untold("hidden")), "clip")
    found = cells_lost(torch.tensor([[0, 1]]), REAL, schema)
    assert found["merged"] == 2 / 8
