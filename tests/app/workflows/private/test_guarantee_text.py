"""The sentence of a guarantee: whom it protects, and by how much."""

import math

import pytest

import feller
from feller.app.terminal import TerminalReporter, show_numbers
from feller.app.workflows.private.guarantee_text import (
    SEARCH_NOTE,
    caveat,
    guarantee_numbers,
    privacy_unit,
    sentence,
)
from feller.data.tables.column import Categorical
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Identifier
from feller.evaluation.metrics import metric
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from tests.data.tables.test_histories import visits
from tests.data.tables.test_linked_tables import shop
from tests.records import fit_record

COLUMNS = (Identifier("patient"), Categorical("drug", ("a", "b")))
LEDGER = Ledger((GaussianMechanism("counts", 5.0),), 1e-5, 1234)
ASKED = fit_record(data="visits.csv", recipe="table", size="tiny", seed=0, schema="schema.json")


def test_rows():
    said = sentence(LEDGER, ASKED, Table(Schema(COLUMNS)))
    factor = math.ceil(100 * math.exp(LEDGER.epsilon())) / 100
    assert "adding or removing one row among the 1,234 rows of visits.csv" in said
    assert f"at most {factor} times as likely as without any one row, except with probability 1e-05" in said


def test_held_out_rows_went_through_the_schema_search():
    searched = fit_record(data="visits.csv", recipe="table", size="tiny", seed=0)
    assert SEARCH_NOTE in sentence(LEDGER, searched, Table(Schema(COLUMNS)))
    assert SEARCH_NOTE not in sentence(LEDGER, ASKED, Table(Schema(COLUMNS)))


def test_people_with_several_rows():
    said = sentence(LEDGER, ASKED, Table(Schema(COLUMNS, unit="patient")))
    assert "adding or removing all rows of one patient among the 1,234 patients of visits.csv" in said
    assert "without any one patient," in said


@pytest.mark.parametrize("is_linked", [False, True])
def test_rows_of_persons(is_linked: bool) -> None:
    """Persons are named as the unit, in the sentence, in the lines of the ledger, and in the last line of a fit."""
    data = feller.read(shop(9)) if is_linked else feller.read(visits(9), person="patient", order="date")
    said = sentence(LEDGER, ASKED, data.modality)
    assert "adding or removing all rows of one person among the 1,234 persons of visits.csv" in said
    assert "without any one person," in said
    assert ("customers" if is_linked else "patient") in said
    numbers = guarantee_numbers(LEDGER, privacy_unit(data.modality))
    assert (numbers["protected_unit"], numbers["rows_protected"]) == ("person", 1234)
    assert metric("rows_protected", numbers) != metric("rows_protected", {})
    assert "1,234 persons" in LEDGER.describe_events(privacy_unit(data.modality))[-1]


def test_units_of_tables_with_one_row_per_person() -> None:
    assert "protected_unit" not in guarantee_numbers(LEDGER, privacy_unit(Table(Schema(COLUMNS))))
    assert privacy_unit(Table(Schema(COLUMNS, unit="patient"))) == "patient"


def test_an_epsilon_that_protects_nobody_says_so():
    large = Ledger((GaussianMechanism("counts", 0.17),), 1e-5, 1234)
    assert large.epsilon() > 15
    assert "An epsilon this large promises next to nothing." in sentence(large, ASKED, Table(Schema(COLUMNS)))
    assert "this large" not in sentence(LEDGER, ASKED, Table(Schema(COLUMNS)))
    assert "model.json" not in caveat(large)
    assert "model.json" in caveat(LEDGER)
    assert caveat(None) == ""


@pytest.mark.parametrize(
    ("epsilon", "said"), [(4.0, "may be published"), (12.0, "a factor of 163,000"), (22.0, "3.6 billion times")]
)
def test_last_line_of_a_fit(epsilon, said, capsys):
    show_numbers({"rows_protected": 54, "epsilon": epsilon, "delta": 1e-5}, TerminalReporter())
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last
    assert ("may be published" in last) == (epsilon < 20)
    assert "54 rows" in last


@pytest.mark.parametrize("epsilon", [4.0, 22.0])
def test_last_line_of_a_fit_to_persons(epsilon: float, capsys: pytest.CaptureFixture) -> None:
    numbers = {"rows_protected": 54, "protected_unit": "person", "epsilon": epsilon, "delta": 1e-5}
    show_numbers(numbers, TerminalReporter())
    last = capsys.readouterr().err.splitlines()[-1]
    assert "54 persons" in last
    assert "row" not in last
