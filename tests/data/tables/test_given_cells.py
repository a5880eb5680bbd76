"""Conditions on cells: shares of bins, cells within ranges, and refusals."""

from collections import Counter

import numpy as np
import pytest
import torch

from feller.core.errors import UsageError
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.dates import Datetime
from feller.data.tables.given_cells import GivenCells, words_of
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived
from tests.errors import refuses

AGE = Numerical("age", 18.0, 90.0, edges=(30.0, 45.0, 60.0), heavy=(40.0,))
SCHEMA = Schema(
    (
        AGE,
        Categorical("job", ("clerk", "driver", "smith"), missing="-"),
        Datetime("hired", "2015-01-01", "2024-12-31", bins=10),
        Numerical("code", 0.0, 99.0, digits=True),
        Boolean("member", true="yes", false="no"),
        Derived("trade", "job", {"clerk": "desk", "driver": "road", "smith": "desk", "-": "desk"}),
    )
)


def given(**values: object) -> GivenCells:
    return Table(SCHEMA).given_cells(words_of(values))


def fractions(cells: GivenCells, column: int, count: int) -> list[float]:
    return cells.choices[column].fractions(torch.arange(count)).tolist()


def test_bins_count_by_their_share() -> None:
    """The bins are 18 to 29, 30 to 44 without 40, 40, 45 to 59 and 60 to 90."""
    cells = given(age=(35, 50))
    assert fractions(cells, 0, 5) == [0, pytest.approx(9 / 14), 1, pytest.approx(6 / 15), 0]
    assert fractions(given(age="35..50"), 0, 5) == fractions(cells, 0, 5)
    assert fractions(given(age=(None, 29.5)), 0, 5) == [1, 0, 0, 0, 0]
    assert fractions(given(age=[40, "60..61"]), 0, 5) == [0, 0, 1, 0, pytest.approx(2 / 31)]
    assert not cells.observed.any()


def test_numbers_are_uniform_within_given_ranges() -> None:
    """Each count within 5 standard deviations; false alarm 1e-5."""
    choice = given(age=["35..39", "41", "43..44"]).choices[0]
    codes = np.full(8000, 1)
    uniforms = np.random.default_rng(0).random(len(codes))
    found = Counter(AGE.value_cells(codes, choice.uniforms(codes, uniforms)).to_pylist())
    assert set(found) == {"35", "36", "37", "38", "39", "41", "43", "44"}
    assert all(abs(count - 1000) < 5 * np.sqrt(1000) for count in found.values())


def test_categories_dates_and_digits() -> None:
    cells = given(job=["clerk", "-"], hired=("2016-01-01", "2016-12-31"), code=["3..7", "50"], member="yes")
    assert fractions(cells, 1, 4) == [1, 0, 0, 1]
    assert sum(share > 0 for share in fractions(cells, 2, 10)) in (1, 2)
    assert cells.choices[3].fractions(torch.tensor([2, 3, 7, 8, 50])).tolist() == [0, 1, 1, 0, 1]
    assert cells.observed.tolist() == [False, False, False, False, True]
    assert fractions(given(trade=["desk"]), 1, 4) == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("values", "argument"),
    [
        ({"age": (50, 35)}, "age"),
        ({"age": (100, 200)}, "age"),
        ({"age": ("a", "b")}, "age"),
        ({"age": (1, 2, 3)}, "age"),
        ({"age": (None, None)}, "age"),
        ({"job": ("clerk", "smith")}, "job"),
        ({"job": ["clrk"]}, "job"),
        ({"job": []}, None),
        ({"height": (1, 2)}, "given"),
        ({"job": ["clerk"], "trade": ["desk"]}, "job"),
    ],
)
def test_impossible_conditions_are_refused(values: dict[str, object], argument: str | None) -> None:
    with refuses(UsageError, argument=argument):
        given(**values)
