"""What is said of given cells that no row that is learned has."""

from feller.data.table.categorical import Boolean, Categorical
from feller.data.table.numerical import Numerical
from feller.data.table.schema import Schema
from feller.journeys.sampling.rows import outside

PEOPLE = Schema(
    (
        Numerical("age", low=18.0, high=90.0, edges=(30.0, 45.0, 60.0)),
        Categorical("job", values=("clerk", "driver"), other="OTHER", missing="-"),
        Boolean("member", true="yes", false="no"),
    ),
    outside="clip",
)


def test_cells_that_the_schema_has_are_passed_over_in_silence() -> None:
    cells = {
        "age": ["18", "90", ""],
        "job": ["clerk", "OTHER", "-", "", "?"],
        "member": ["yes", "*", ""],
        "name": ["x"],
    }
    assert list(outside(PEOPLE, cells)) == []


def test_a_word_that_is_not_listed_is_told_with_what_it_counts_for() -> None:
    (told,) = outside(PEOPLE, {"job": ["clrk", "driver", "pilot"]})
    assert told == (
        "job 'clrk' and 1 more: not in the schema, so the rest of the row goes with 'OTHER'; did you mean 'clerk'?"
        " there are: OTHER, clerk, driver"
    )


def test_a_number_beyond_its_bounds_is_told() -> None:
    (told,) = outside(PEOPLE, {"age": ["17", "30"], "job": ["clerk", ""]})
    assert told.startswith("age '17': not in the schema, so the rest of the row goes with the nearest that is allowed;")
