"""What is given of rows: shares of codes, cells within bins, and what cannot be."""

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


def fractions(cells: GivenCells, place: int, count: int) -> list[float]:
    return cells.choices[place].fractions(torch.arange(count)).tolist()


def test_a_bin_counts_by_the_share_of_its_numbers() -> None:
    """Codes: 18 to 29, 30 to 44 but 40, 40, 45 to 59, 60 to 90."""
    cells = given(age=(35, 50))
    assert fractions(cells, 0, 5) == [0, pytest.approx(9 / 14), 1, pytest.approx(6 / 15), 0]
    assert fractions(given(age="35..50"), 0, 5) == fractions(cells, 0, 5)
    assert fractions(given(age=(None, 29.5)), 0, 5) == [1, 0, 0, 0, 0]
    assert fractions(given(age=[40, "60..61"]), 0, 5) == [0, 0, 1, 0, pytest.approx(2 / 31)]
    assert not cells.observed.any()


def test_numbers_are_written_evenly_within_what_is_given() -> None:
    """31 numbers of a bin, 10,000 times: each within 5 deviations of a multinomial count; a false alarm in 1e5."""
    choice = given(age=["35..39", "41", "43..44"]).choices[0]
    codes = np.full(8000, 1)
    uniforms = np.random.default_rng(0).random(len(codes))
    found = Counter(AGE.value_cells(codes, choice.uniforms(codes, uniforms)).to_pylist())
    assert set(found) == {"35", "36", "37", "38", "39", "41", "43", "44"}
    assert all(abs(count - 1000) < 5 * np.sqrt(1000) for count in found.values())


def test_words_times_and_digits() -> None:
    cells = given(job=["clerk", "-"], hired=("2016-01-01", "2016-12-31"), code=["3..7", "50"], member="yes")
    assert fractions(cells, 1, 4) == [1, 0, 0, 1]
    assert sum(share > 0 for share in fractions(cells, 2, 10)) in (1, 2)
    assert cells.choices[3].fractions(torch.tensor([2, 3, 7, 8, 50])).tolist() == [0, 1, 1, 0, 1]
    assert cells.observed.tolist() == [False, False, False, False, True]
    assert fractions(given(trade=["desk"]), 1, 4) == [1, 0, 1, 1]


@pytest.mark.parametrize(
    "values",
    [
        {"age": (50, 35)},
        {"age": (100, 200)},
        {"age": ("a", "b")},
        {"age": (1, 2, 3)},
        {"age": (None, None)},
        {"job": ("clerk", "smith")},
        {"job": ["clrk"]},
        {"job": []},
        {"height": (1, 2)},
        {"job": ["clerk"], "trade": ["desk"]},
    ],
)
def test_what_no_row_can_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        given(**values)
