"""What is said of given cells that no row that is learned has."""

from dataclasses import replace

import numpy as np
import pytest

from feller.core.errors import UsageError
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.dates import Datetime
from feller.data.tables.encoding import outside as outside_of
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import FreeText, Identifier
from tests.errors import refuses

PEOPLE = Schema(
    (
        Numerical("age", low=18.0, high=90.0, edges=(30.0, 45.0, 60.0)),
        Categorical("job", values=("clerk", "driver"), other="OTHER", missing="-"),
        Boolean("member", true="yes", false="no"),
    ),
    outside="clip",
)


def outside(schema, cells):
    """Return what is said of cells, column by column, which may differ in number."""
    tables = (RawTable(np.array([[cell] for cell in own]), columns=(name,)) for name, own in cells.items())
    return [line for table in tables for line in outside_of(schema, table)]


def test_cells_that_the_schema_has_are_passed_over_in_silence():
    cells = {
        "age": ["18", "90", ""],
        "job": ["clerk", "OTHER", "-", "", "?"],
        "member": ["yes", "*", ""],
        "name": ["x"],
    }
    assert list(outside(PEOPLE, cells)) == []


def test_a_word_that_is_not_listed_is_told_with_what_it_counts_for():
    (told,) = outside(PEOPLE, {"job": ["clrk", "driver", "pilot"]})
    assert all(word in told for word in ("job", "'clrk'", "1 more", "'OTHER'", "'clerk'"))


def test_a_number_beyond_its_bounds_is_told():
    (told,) = outside(PEOPLE, {"age": ["17", "30"], "job": ["clerk", ""]})
    assert all(word in told for word in ("age", "'17'", "nearest"))


def test_a_word_that_counts_as_missing_is_told_as_that():
    member = replace(PEOPLE.modelled[2], missing="N/A")
    (told,) = outside(replace(PEOPLE, columns=(member,)), {"member": ["maybe"]})
    assert "missing" in told


def table(outside="clip"):
    columns = (
        *PEOPLE.columns,
        Datetime("hired", "2015-01-01", "2024-12-31", bins=10, missing=""),
        Identifier("id"),
        FreeText("E-Mail"),
    )
    return Table(replace(PEOPLE, columns=columns, outside=outside))


@pytest.mark.parametrize(("leaf", "beyond", "bound"), [("age", "17", "18"), ("hired", "2031-05-01", "2024-12-31")])
def test_what_is_beyond_its_bounds_counts_as_the_nearest_where_the_schema_clips(leaf, beyond, bound):
    assert table().parse_cell(leaf, beyond) == table().parse_cell(leaf, bound)
    (told,) = outside(table().schema, {leaf: [beyond]})
    assert "nearest" in told
    with refuses(UsageError, argument=leaf):
        table("refuse").parse_cell(leaf, beyond)


def test_the_rows_have_what_was_given():
    kind = table()
    given = kind.given_cells({"age": "17"})
    assert kind.with_given(given.codes.expand(2, -1), given).column("age") == ["17", "17"]


@pytest.mark.parametrize("how", ["clip", "refuse"])
def test_a_word_near_nothing_and_a_day_that_is_none_are_refused(how):
    with refuses(UsageError, argument="member", found="'maybe'"):
        table(how).parse_cell("member", "maybe")
    with refuses(UsageError, argument="hired", found="'2020-02-30'"):
        table(how).parse_cell("hired", "2020-02-30")
    with refuses(UsageError, argument="hired", found="'soon'"):
        table(how).parse_cell("hired", "soon")


@pytest.mark.parametrize("leaf", ["id", "E-Mail"])
def test_a_column_that_was_never_learned_is_told_as_that(leaf):
    with refuses(UsageError, argument=leaf):
        table().parse_cell(leaf, "5")
