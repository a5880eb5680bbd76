"""Private schema search: bounds, formats, and intervals of noisy counts."""

import numpy as np
import pytest

from feller.data.loading.raw import RawTable, text_array
from feller.data.tables.column import Categorical
from feller.data.tables.dates import Datetime
from feller.data.tables.encoding import encode
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_schema_search import SchemaSearchResult, search_schema
from feller.data.tables.private_support import NoisyTotal, find_intervals, project_to_simplex
from feller.data.tables.unmodelled_columns import FreeText, Identifier
from tests.data.tables.test_private_domain import NoNoise, SeededGaussian

SIGMA = 23.7
"""Noise of a table of 14 columns and 1,500 rows at epsilon 4."""
NAMES = ("id", "income", "hired", "left", "plz", "wealth", "height", "debt")


@pytest.fixture(scope="module")
def table() -> RawTable:
    rng, n = np.random.default_rng(1), 1500
    hired = np.datetime64("2015-01-01") + (rng.beta(2, 1, n) * 3650).astype(int)
    left = np.where(rng.random(n) < 0.4, (hired + rng.exponential(500, n).astype(int)).astype(str), "")
    parts = {
        "id": np.arange(1, n + 1),
        "income": [f"{x:.2f}".replace(".", ",") for x in np.exp(rng.normal(10.5, 0.8, n))],
        "hired": hired.astype(str),
        "left": [".".join(reversed(cell.split("-"))) if cell else "" for cell in left],
        "plz": rng.choice(["01067", "08001", "10115", "99999"], n, p=[0.4, 0.3, 0.2, 0.1]),
        "wealth": np.where(rng.random(n) < 0.7, 0, np.exp(rng.normal(16, 2, n)).astype(np.int64)),
        "height": [f"{x:.2f}".replace(".", ",") for x in rng.normal(1.7, 0.09, n)],
        "debt": np.where(rng.random(n) < 0.5, -1, 1) * np.exp(rng.normal(8, 1, n)).astype(np.int64),
    }
    cells = np.array([list(map(str, parts[name])) for name in NAMES], dtype=object).T
    return RawTable(cells, columns=NAMES)


def clipped_shares(table: RawTable, domain: SchemaSearchResult) -> dict[str, float]:
    """Return the share of rows that are clipped in each column."""
    outside = encode(table, domain.schema).outside / len(table.values)
    return {column.name: share.item() for column, share in zip(domain.schema.modelled, outside, strict=True)}


def test_schema_without_noise(table: RawTable) -> None:
    """The search knows the noise level but no noise is added: at most 2% of the rows are clipped."""
    domain = search_schema(table, SIGMA, 1e-6, NoNoise())
    number, income, hired, left, plz, wealth, height, debt = domain.schema.columns
    assert number == Identifier("id")
    assert isinstance(income, Numerical)
    assert income.form == NumberFormat(2, point=",")
    assert isinstance(height, Numerical)
    assert height.form == NumberFormat(2, point=",")
    assert isinstance(plz, Categorical)
    assert plz.values == ("01067", "08001", "10115", "99999")
    assert isinstance(hired, Datetime)
    assert isinstance(left, Datetime)
    assert hired.first <= "2015-12-31"
    assert isinstance(wealth, Numerical)
    assert wealth.heavy == (0.0,)
    assert isinstance(debt, Numerical)
    assert debt.low < -20_000 < 20_000 < debt.high
    assert max(clipped_shares(table, domain).values()) <= 0.02
    assert domain.clipped_cells == ()


@pytest.mark.slow
def test_noise_clips_few_rows(table: RawTable) -> None:
    """Five searches; such noise can hide a tail of a hundred rows."""
    shares = [clipped_shares(table, search_schema(table, SIGMA, 1e-6, SeededGaussian(seed))) for seed in range(5)]
    assert all("id" not in share for share in shares)
    for name in ("income", "hired", "plz", "height", "debt"):
        assert np.mean([share[name] for share in shares]) <= 0.02
    assert max(max(share.values()) for share in shares) <= 0.1


def test_long_tails_get_their_own_edges(table: RawTable) -> None:
    """Numbers drawn uniformly within their bins keep the mean."""
    column = search_schema(table, 2.0, 1e-6, NoNoise()).schema.columns[5]
    assert isinstance(column, Numerical)
    values = np.array(table.column("wealth"), dtype=float)
    codes = column.clipped(text_array(table.column("wealth")))
    drawn = np.array(column.value_cells(codes, np.random.default_rng(0).random(len(codes))), dtype=float)
    assert 0.7 < drawn.mean() / values.mean() < 1.4


def test_clipped_share_is_reported() -> None:
    """A third of the rows is spread over 40 octaves, so thinly that no interval contains it."""
    rng = np.random.default_rng(0)
    cells = [["7", "ab"[i % 2]] for i in range(800)]
    cells += [[str(2 ** int(rng.integers(8, 48))), "ab"[i % 2]] for i in range(400)]
    domain = search_schema(RawTable(np.array(cells, dtype=object), columns=("x", "y")), 60.0, 1e-6, NoNoise())
    assert isinstance(domain.schema.columns[0], Numerical)
    (record,) = domain.clipped_cells
    assert record.column == "x"
    assert record.fraction == pytest.approx(clipped_share(domain, cells), abs=0.02)


def clipped_share(domain: SchemaSearchResult, cells: list[list[str]]) -> float:
    found = RawTable(np.array(cells, dtype=object), columns=("x", "y"))
    return clipped_shares(found, domain)["x"]


def test_three_digits_after_a_comma_are_thousands_by_default() -> None:
    whole = [
        [f"{1 + i % 90},{100 + i % 900}", f"{i % 9},{i % 1000:03d}" if i % 3 else f"{i % 90},5"] for i in range(900)
    ]
    table = RawTable(np.array(whole, dtype=object), columns=("many", "fine"))
    many, fine = search_schema(table, 2.0, 1e-6, NoNoise()).schema.columns
    assert isinstance(many, Numerical)
    assert (many.form, many.high > 90_000) == (NumberFormat(0, thousands=","), True)
    assert isinstance(fine, Numerical)
    assert (fine.form, fine.high < 200) == (NumberFormat(3, point=","), True)


def test_numbers_similar_to_row_ids_stay_numbers() -> None:
    """Ages, and 1 to 1,500 with a third missing or repeated."""
    rng = np.random.default_rng(0)
    cells = [[str(i + 1), str(18 + i % 80), str(1 + 2 * (i % 750)), f"u{i}"] for i in range(1500)]
    cells = [[a, b, c if rng.random() < 0.6 else str(1 + i % 300), d] for i, (a, b, c, d) in enumerate(cells)]
    table = RawTable(np.array(cells, dtype=object), columns=("id", "age", "sparse", "name"))
    number, age, sparse, name = search_schema(table, 10.0, 1e-6, SeededGaussian(0)).schema.columns
    assert isinstance(number, Identifier)
    assert isinstance(age, Numerical)
    assert isinstance(sparse, Numerical)
    assert name == FreeText("name")


def test_neighbouring_counts_are_pooled() -> None:
    """Thirty rows in each of twelve places are below the noise; their sum is not."""
    counts = [0.0] * 20 + [50.0] * 12 + [0.0] * 30
    assert find_intervals(counts, 20.0, 0.5, NoisyTotal(600.0, 1)) == [(20 - 12 // 5, 31 + 12 // 5)]
    assert find_intervals([50.0, 50.0, *[0.0] * 60], 20.0, 0.5, NoisyTotal(100.0, 1)) == []


def test_interval_edges_exceed_noise() -> None:
    counts = [0.0, 0.0, 1.0, 3.0, 9.0, 500.0, 700.0, 8.0, 2.0, 0.0, 0.0]
    assert find_intervals(counts, 2.0, 1.0, NoisyTotal(1223.0, 1)) == [(3, 7)]


def test_intervals_are_separate_or_merged() -> None:
    counts = [900.0, *[0.0] * 9, 300.0, 300.0, *[0.0] * 9]
    assert find_intervals(counts, 1.0, 0.5, NoisyTotal(1500.0, 1)) == [(0, 0), (10, 11)]
    assert find_intervals([0.0] * 50, 5.0, 0.5, NoisyTotal(100.0, 1)) == []


def test_missing_rows_lower_the_threshold() -> None:
    """150 of 1,150 rows lie five deviations of their sum away."""
    counts = [1000.0, *[0.0] * 100, *[38.0] * 4, *[0.0] * 100]
    assert find_intervals(counts, 20.0, 0.5, NoisyTotal(1000.0, 1)) == [(0, 0)]
    assert find_intervals(counts, 20.0, 0.5, NoisyTotal(1152.0, 1)) == [(0, 0), (101, 104)]


def test_false_alarm_rate_of_intervals() -> None:
    """False alarm in at most 1e-3 of the lines; of 1,000 more than seven have probability 1e-5."""
    rng = np.random.default_rng(0)
    assert (
        sum(bool(find_intervals(rng.normal(size=60).tolist(), 1.0, 0.5, NoisyTotal(0.0, 1))) for _ in range(1000)) <= 7
    )


def test_simplex_projection_in_closed_form() -> None:
    assert project_to_simplex([5.0, 1.0, -2.0], 4.0) == pytest.approx([4.0, 0.0, 0.0])
    assert project_to_simplex([3.0, 3.0, -1.0], 6.0) == pytest.approx([3.0, 3.0, 0.0])
    assert project_to_simplex([1.0, 2.0, 3.0], 9.0) == pytest.approx([2.0, 3.0, 4.0])
    assert project_to_simplex([1.0, 2.0], 0.0) == [0.0, 0.0]
