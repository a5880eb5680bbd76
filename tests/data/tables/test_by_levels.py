"""Tables whose numbers are seen by their bins, though they are written digit by digit."""

import pytest
import torch

from feller.core.errors import UsageError
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.modality import Table
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema

AGE = Numerical("age", 0.0, 99.0, edges=(20.0, 60.0), heavy=(42.0,), digits=True, missing="?")
FINE = Table(Schema((AGE, Categorical("sex", ("F", "M")))), shares=((0.2, 0.3, 0.1, 0.3, 0.1), (0.5, 0.5)))
CODES = torch.tensor([[0, 1], [19, 0], [20, 0], [42, 1], [99, 0], [100, 1]])


def test_codes_become_levels_once() -> None:
    coarse = FINE.by_levels()
    assert FINE.counts == (101, 2)
    assert coarse.counts == (5, 2)
    assert coarse.shares == FINE.shares
    seen = Dataset(CODES, {}, FINE).seen_as(coarse)
    assert seen.modality == coarse
    assert seen.values.tolist() == [[0, 1], [0, 0], [1, 0], [2, 1], [3, 0], [4, 1]]
    assert torch.equal(seen.seen_as(coarse).values, seen.values)
    assert torch.equal(coarse.accept(FINE.cells(CODES))[0], seen.values)


def test_a_table_without_digits_stays_as_it_is() -> None:
    coarse = FINE.by_levels()
    assert coarse.by_levels() == coarse
    seen = Dataset(CODES[:, 1:].repeat(1, 2), {}, coarse).seen_as(Table(coarse.schema))
    assert torch.equal(seen.values, CODES[:, 1:].repeat(1, 2))
    assert seen.modality.shares == ()


def test_levels_of_rows_are_taken_once() -> None:
    digits = Table(Schema((Numerical("pay", 0.0, 99.0, edges=(50.0,), digits=True),)))
    rows = Dataset(torch.tensor([[3], [77]]), {}, digits)
    by_levels = digits.by_levels().adopt(rows)
    assert by_levels.values.tolist() == [[0], [1]]
    assert digits.levels(rows).tolist() == digits.levels(by_levels).tolist() == [[0], [1]]


def test_given_numbers_stand_as_they_are_written() -> None:
    schema = Schema(
        (Numerical("age", 0.0, 99.0, edges=(50.0,)), Categorical("job", ("a", "b"), other="else")),
        rules=(Constraint("age", ("< 50",), "job", ("a",)),),
    )
    table = Table(schema)
    given = table.given_cells({"age": "17"})
    codes, kept = given.codes.expand(3, -1), given.kept.expand(3, -1)
    assert (codes[:, 0].tolist(), kept[:, 0].tolist()) == ([0, 0, 0], [True] * 3)
    drawn = torch.tensor([[0, 0], [0, 0]])
    written = table.with_given(drawn, table.given_cells({"age": "17", "job": "a"}))
    assert (written.column("age"), written.column("job")) == (["17", "17"], ["a", "a"])
    assert table.with_given(drawn, table.given_cells({"job": "a"})).column("job") == ["a", "a"]
    with pytest.raises(UsageError, match="the given age and job break a rule"):
        table.given_cells({"age": "17", "job": "b"})
