"""Where numbers lie is measured on the numbers, and told where bins see nothing."""

import numpy as np
import pytest

from feller.data.loading.raw import FoundTable
from feller.data.tables.column import Categorical
from feller.data.tables.detect_schema import detect
from feller.data.tables.modality import Table, tables
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema
from feller.evaluation.report.table_figures import numbers_grid
from feller.evaluation.report.verdict import verdict
from feller.evaluation.tables.cells import numbers_beside

NUMBERS = np.random.default_rng(0).lognormal(10.5, 0.7, 1500).round()
NUMBERS[:2] = 600_000, 420_000


def table(values: np.ndarray) -> FoundTable:
    cells = np.array([[f"{value:.0f}", "x" if value > 30_000 else "y"] for value in values], dtype=object)
    return FoundTable(cells, columns=("income", "kind"))


def drawn(schema: Schema) -> FoundTable:
    """Return rows with the bins of the real ones, in which numbers are drawn evenly."""
    data = tables(table(NUMBERS), schema)
    assert isinstance(data.modality, Table)
    return data.modality.cells(data.values)


def test_a_mean_that_bins_cannot_see_is_told() -> None:
    wide = Schema(
        (Numerical("income", 0.0, 750_000.0, (20_000.0, 40_000.0, 80_000.0)), Categorical("kind", ("x", "y")))
    )
    (found,) = numbers_beside(drawn(wide), table(NUMBERS), wide)
    assert found.real.mean == pytest.approx(NUMBERS.mean())
    assert found.real.quantiles == pytest.approx(np.quantile(NUMBERS, (0.05, 0.5, 0.95)))
    assert found.is_far_off
    (row,) = numbers_grid([found]).rows
    assert row[0], row[-1] == ("income", "far off")
    assert row[2] == found.real.mean
    assert len(verdict({"tv2": 0.01, "tv2_floor": 0.01, "numbers_off": "income"}).cautions) == 1


def test_rows_drawn_again_are_not_far_off() -> None:
    """The means of two tables drawn from one law differ by four standard errors once in 16,000 times."""
    schema = Schema((Numerical("income", 0.0, 750_000.0), Categorical("kind", ("x", "y"))))
    again = np.random.default_rng(1).choice(NUMBERS, 300)
    assert not numbers_beside(table(again), table(NUMBERS), schema)[0].is_far_off


def test_the_draft_has_edges_in_the_tail() -> None:
    """Numbers that are drawn evenly within the bins of the draft have the mean and the deviation of the real ones."""
    schema = detect(table(NUMBERS))
    column = schema.modelled[0]
    assert isinstance(column, Numerical)
    assert column.high / column.edges[-1] < 2.5
    (found,) = numbers_beside(drawn(schema), table(NUMBERS), schema)
    assert found.made.mean == pytest.approx(found.real.mean, rel=0.05)
    assert found.made.deviation == pytest.approx(found.real.deviation, rel=0.2)
    assert not found.is_far_off


def test_the_draft_has_as_many_bins_as_there_are_rows_for() -> None:
    """61 numbers have a bin each where there are 50 rows for each, and else about equal shares."""
    for n, least, most in ((1500, 15, 21), (5000, 61, 61)):
        heights = np.random.default_rng(0).integers(145, 196, n)
        cells = np.array([[f"{one / 100:.2f}", "xy"[one % 2]] for one in heights], dtype=object)
        column = detect(FoundTable(cells, columns=("height", "kind"))).modelled[0]
        assert least <= column.count <= most
