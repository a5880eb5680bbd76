"""Private schema search: charges, thresholds, influence of single rows, bounds and intervals of noisy counts."""

import math
from collections import Counter

import numpy as np
import pyarrow
import pytest
import torch
from scipy.stats import norm

from feller.core.errors import UsageError
from feller.data.loading.raw import FactorizedColumn, RawTable, text_array
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.dates import Datetime
from feller.data.tables.encoding import encode
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_schema_search import NoiseTooLargeError, SchemaSearchResult, search_schema
from feller.data.tables.private_support import Charge, NoisyCounter, NoisyTotal, find_intervals, project_to_simplex
from feller.data.tables.schema_detection import CLASSES, majority_class, noisy_class_counts
from feller.data.tables.unmodelled_columns import FreeText, HiddenColumn, Identifier
from feller.privacy.noise.grid_noise import SeededNoise
from tests.errors import refuses


class NoNoise:
    """Noise source without noise, or with a constant multiple of the scale."""

    def __init__(self, z: float = 0.0) -> None:
        self.z, self.drawn = z, 0

    def add_gaussian(self, values: torch.Tensor, scale: float) -> torch.Tensor:
        self.drawn += values.numel()
        return values + scale * self.z


class SeededGaussian:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def add_gaussian(self, values: torch.Tensor, scale: float) -> torch.Tensor:
        return values + scale * torch.randn(values.shape, dtype=values.dtype, generator=self.generator)


def people_table(n: int = 2000) -> RawTable:
    rng = np.random.default_rng(0)
    rows = [
        [
            str(int(rng.integers(18, 80))),
            "0" if i % 3 else f"{rng.exponential(3000):.2f}",
            ("Yes", "No")[i % 2],
            ("red", "green", "blue")[i % 3],
            f"{1980 + i % 30}-0{1 + i % 9}-1{i % 10}",
            f"unlike any other {i}",
            "?" if i % 4 == 0 else "x",
        ]
        for i in range(n)
    ]
    names = ("age", "gain", "flag", "colour", "born", "note", "gap")
    return RawTable(np.array(rows, dtype=object), columns=names)


def with_row(found: RawTable, row: list[str]) -> RawTable:
    more = RawTable(np.array([row], dtype=object), columns=found.columns)
    return RawTable(pyarrow.concat_tables([found.values, more.values]), columns=found.columns)


def test_columns_and_charges() -> None:
    schema, charges, *_ = search_schema(people_table(), 5.0, 1e-6, SeededGaussian(0))
    age, gain, flag, colour, born, note, gap = schema.columns
    kinds = [Numerical, Numerical, Boolean, Categorical, Datetime, FreeText, Categorical]
    assert [type(column) for column in schema.columns] == kinds
    assert age.low <= 18 <= 79 <= age.high <= 260  # at most an octave more than needed
    assert (gain.heavy, gain.form) == ((0.0,), NumberFormat(2, whole=True))
    assert gain.high >= 15_000
    assert flag == Boolean("flag", "Yes", "No")
    assert {*colour.values} == {"blue", "green", "red"}
    assert colour.other is None
    assert "1978-01-01" <= born.first <= "1980-01-01"
    assert "2009-12-31" <= born.last <= "2011-12-31"
    assert note == FreeText("note")
    assert gap.values == ("x",)
    assert gap.code("?") == gap.num_codes - 1
    assert schema.outside == "impute"
    assert charges == (
        Charge("kinds of the columns", 5 / math.sqrt(7)),
        Charge("codes of 2 columns of numbers", 5 / math.sqrt(2)),
        Charge("bounds of 2 columns of numbers", 5 / math.sqrt(2)),
        Charge("edges of 2 columns of numbers", 5 / math.sqrt(2)),
        Charge("years of 1 column of dates", 5.0),
        Charge("values of 4 columns of words", 5 / math.sqrt(4), 1e-6),
        Charge("other values of 2 columns of words", 5 / math.sqrt(2)),
    )


def test_one_extreme_row_changes_only_noisy_counts() -> None:
    """Without noise, one more row, however strange, leaves the schema unchanged."""
    found = people_table()
    for row in (
        ["999999", "-8e12", "maybe", "ultraviolet", "1901-01-01", "me", "secret"],
        ["soon", "12,5", "", "31.12.1999", "x", "1", "2020-01-01"],
    ):
        for sigma in (3.0, 10.0):
            assert (
                search_schema(with_row(found, row), sigma, 1e-6, NoNoise())[0]
                == search_schema(found, sigma, 1e-6, NoNoise())[0]
            )


def test_count_noise_equals_charge() -> None:
    counts = NoisyCounter(7.0, SeededGaussian(1)).counts([0], range(20_000), [50])
    values = np.array([counts[i] for i in range(20_000)])
    values[0] -= 50
    assert abs(values.std() - 7) < 0.2  # five standard errors
    assert abs(values.mean()) < 0.25


def test_noisy_counts_lie_on_the_noise_grid() -> None:
    """The grid is 2^-34 of the noise scale, rounded down to a power of two; large counts lie on it, too."""
    noisy, grid = NoisyCounter(5.0, SeededNoise(0, "counts")), 2.0 ** (2 - 34)
    counts = noisy.counts([0, 1], range(2000), [3, 1_000_000])
    words = dict(noisy.words({"a": 100, "b": 1000}, 1e-6))
    for count in (*counts.values(), *words.values()):
        assert count / grid == round(count / grid)
    assert abs(counts[1] - 1_000_000) < 40
    assert abs(words["b"] - 1000) < 40


def test_single_row_words_pass_with_probability_delta() -> None:
    """40,000 words with one row each; five standard errors."""
    delta = 0.01
    released = NoisyCounter(4.0, SeededGaussian(2)).words({f"w{i}": 1 for i in range(40_000)}, delta)
    assert abs(len(released) / 40_000 - delta) < 5 * math.sqrt(delta / 40_000)
    noise = NoNoise(norm.isf(delta) - 1e-9)
    assert NoisyCounter(4.0, noise).words({"a": 1}, delta) == []
    assert [word for word, _ in NoisyCounter(4.0, noise).words({"a": 1, "b": 2}, delta)] == ["b"]


def test_invalid_noise_is_refused() -> None:
    for sigma, delta in ((0.0, 1e-6), (1.0, 0.0), (1.0, 1.0), (math.inf, 0.1)):
        with refuses(UsageError):
            search_schema(people_table(10), sigma, delta, NoNoise())


def test_too_much_noise_is_refused_after_one_charge() -> None:
    """Two rows at a deviation of 5: neither bounds nor values are looked at."""
    noise = NoNoise()
    cells = np.array([["a", "1"], ["b", "2"]], dtype=object)
    with pytest.raises(NoiseTooLargeError) as record:
        search_schema(RawTable(cells, columns=("x", "y")), 5.0, 1e-9, noise)
    assert record.value.hidden_columns == ("x", "y")
    assert record.value.charges == (Charge("kinds of the columns", 5 / math.sqrt(2)),)
    assert noise.drawn == 2 * len(CLASSES)


def test_single_visible_column_is_refused() -> None:
    cells = np.array([["red", str(i % 2**12) + ".5"] for i in range(1, 301)], dtype=object)
    with pytest.raises(
        NoiseTooLargeError
    ) as record:  # numbers over twelve octaves: none holds enough rows, though their kind does
        search_schema(RawTable(cells, columns=("x", "y")), 45.0, 1e-3, NoNoise())
    assert record.value.hidden_columns == ("y",)
    labels = [charge.label.partition(" ")[0] for charge in record.value.charges]
    assert labels == ["kinds", "codes", "bounds", "edges", "values", "other"]


def words(cells: list[str]) -> FactorizedColumn:
    return RawTable(np.array(cells, dtype=object)[:, None], columns=("x",)).factorize("x")


def test_empty_date_formats_do_not_win_by_noise() -> None:
    """450 rows, noise of 54 on each of 100 classes: the empty ones add up to far more than all rows.

    Some class stands out of the noise falsely in 1e-3 of the columns, and then still has fewer than the right one but
    for a chance of 1e-3: a false kind in 300 columns has the chance 3e-4, a hidden one 300 * 2.4e-5.
    """
    cells_by_kind = {"number": [str(32 + i % 32) for i in range(450)], "word": ["ab"[i % 2] for i in range(450)]}
    cells_by_kind["date:%Y-%m-%d"] = [f"201{i % 2}-05-17" for i in range(450)]
    record = Counter(
        (kind, majority_class(noisy_class_counts(words(cells), NoisyCounter(54.0, SeededGaussian(seed)))))
        for kind, cells in cells_by_kind.items()
        for seed in range(100)
    )
    assert all(found in (kind, None) for kind, found in record)
    assert all(record[kind, kind] >= 99 for kind in cells_by_kind)


@pytest.mark.parametrize(("second", "form"), [(0, "%Y-%m-%d %H:%M:00"), (37, "%Y-%m-%d %H:%M:%S")])
def test_times_have_seconds_only_if_some_are_not_zero(second: int, form: str) -> None:
    cells = [f"201{i % 2}-05-17 {i % 24:02d}:{i % 60:02d}:{i * second % 60:02d}" for i in range(450)]
    schema, *_ = search_schema(
        RawTable(np.array([cells, cells], dtype=object).T, columns=("a", "b")), 5.0, 1e-6, NoNoise()
    )
    assert [column.format for column in schema.columns if isinstance(column, Datetime)] == [form, form]


def test_columns_below_the_noise_are_hidden() -> None:
    """Noise of 45 rows: a word needs about 215 of 450 rows."""
    rows = [["red", f"w{i % 10}", f"{19 + i % 2}50-01-01", str(40 + i % 20)] for i in range(450)]
    table = RawTable(np.array(rows, dtype=object), columns=("one", "ten", "date", "number"))
    schema, *_ = search_schema(table, 45.0, 1e-6, NoNoise())
    assert schema.hidden_names == ("ten",)
    assert [type(column) for column in schema.columns] == [Categorical, HiddenColumn, Datetime, Numerical]
    plain, *_ = search_schema(table, 5.0, 1e-6, NoNoise())
    assert plain.hidden_names == ()


def test_decades_are_found_where_years_are_not() -> None:
    """Births over 60 years, 33 rows in each: no year exceeds the noise, each decade does."""
    rows = [[f"{1940 + i % 60}-03-0{1 + i % 9}", "ab"[i % 2]] for i in range(2000)]
    table = RawTable(np.array(rows, dtype=object), columns=("born", "x"))
    schema, *_ = search_schema(table, 10.0, 1e-6, NoNoise())
    assert (schema.columns[0].first, schema.columns[0].last) == ("1940-01-01", "1999-12-31")
    assert search_schema(table, 1.0, 1e-6, NoNoise())[0].columns[0] == schema.columns[0]


def test_decimals_come_from_significant_counts() -> None:
    """Noise of 20 would lift empty digit classes over a twentieth of 400 rows; false alarm below 10 * 2e-3."""
    rows = [[str(30 + i % 30), "ab"[i % 2]] for i in range(400)]
    table = RawTable(np.array(rows, dtype=object), columns=("age", "x"))
    for seed in range(10):  # false alarm: below 10 * 2 * 1e-3
        column = search_schema(table, 20.0, 1e-6, SeededGaussian(seed))[0].columns[0]
        assert column.form == NumberFormat(0)


def test_share_of_rare_words_is_reported() -> None:
    """Without noise the share is exact, and the threshold is the public one."""
    cells = ["a"] * 350 + ["b"] * 250 + [f"rare {i % 100}" for i in range(380)] + [""] * 20
    table = RawTable(np.array([[cell, str(i % 90)] for i, cell in enumerate(cells)], dtype=object), columns=("w", "n"))
    (record,) = search_schema(table, 5.0, 1e-6, NoNoise()).kept_words
    assert (record.column, record.words, record.other_fraction) == ("w", 2, pytest.approx(0.38))
    assert record.rows == pytest.approx(1 + 5 * 4.753, abs=0.01)
    assert record.error == pytest.approx(2 * 5 / 1000)


def test_insignificant_share_of_rare_words_is_not_reported() -> None:
    """Ten rows are fewer than three deviations of a count, 15 rows; they are read as the most frequent word."""
    cells = ["a"] * 500 + ["b"] * 490 + [f"rare {i}" for i in range(10)]
    table = RawTable(np.array([[cell, str(i % 90)] for i, cell in enumerate(cells)], dtype=object), columns=("w", "n"))
    found = search_schema(table, 5.0, 1e-6, NoNoise())
    assert found.kept_words == ()
    column = found.schema.columns[0]
    assert (column.values, column.other) == (("a", "b"), None)
    assert encode(table, found.schema).codes[-10:, 0].tolist() == [0] * 10


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
    number, income, hired, _, plz, wealth, height, debt = domain.schema.columns
    kinds = [Identifier, Numerical, Datetime, Datetime, Categorical, Numerical, Numerical, Numerical]
    assert [type(column) for column in domain.schema.columns] == kinds
    assert number == Identifier("id")
    assert income.form == height.form == NumberFormat(2, point=",")
    assert plz.values == ("01067", "08001", "10115", "99999")
    assert hired.first <= "2015-12-31"
    assert wealth.heavy == (0.0,)
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
    assert sum(max(share.values()) > 0.1 for share in shares) <= 1  # 1 of 15 searches


def test_long_tails_get_their_own_edges(table: RawTable) -> None:
    """Numbers drawn uniformly within their bins keep the mean."""
    column = search_schema(table, 2.0, 1e-6, NoNoise()).schema.columns[5]
    values = np.array(table.column("wealth"), dtype=float)
    codes = column.clipped(text_array(table.column("wealth")))
    drawn = np.array(column.value_cells(codes, np.random.default_rng(0).random(len(codes))), dtype=float)
    assert 0.7 < drawn.mean() / values.mean() < 1.4


def test_clipped_share_is_reported() -> None:
    """A third of the rows is spread over 40 octaves, so thinly that no interval contains it."""
    rng = np.random.default_rng(0)
    cells = [["7", "ab"[i % 2]] for i in range(800)]
    cells += [[str(2 ** int(rng.integers(8, 48))), "ab"[i % 2]] for i in range(400)]
    table = RawTable(np.array(cells, dtype=object), columns=("x", "y"))
    domain = search_schema(table, 60.0, 1e-6, NoNoise())
    assert isinstance(domain.schema.columns[0], Numerical)
    (record,) = domain.clipped_cells
    assert record.column == "x"
    assert record.fraction == pytest.approx(clipped_shares(table, domain)["x"], abs=0.02)


def test_three_digits_after_a_comma_are_thousands_by_default() -> None:
    cells_of_rows = [
        [f"{1 + i % 90},{100 + i % 900}", f"{i % 9},{i % 1000:03d}" if i % 3 else f"{i % 90},5"] for i in range(900)
    ]
    table = RawTable(np.array(cells_of_rows, dtype=object), columns=("many", "fine"))
    many, fine = search_schema(table, 2.0, 1e-6, NoNoise()).schema.columns
    assert (many.form, many.high > 90_000) == (NumberFormat(0, thousands=","), True)
    assert (fine.form, fine.high < 200) == (NumberFormat(3, 1, point=","), True)


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
