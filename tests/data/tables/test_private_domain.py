"""A domain found privately: only noisy counts decide, and each is charged."""

import math
from collections import Counter

import numpy as np
import pyarrow
import pytest
import torch
from scipy.stats import norm

from feller.core.errors import UsageError
from feller.data.loading.raw import FactorizedColumn, RawTable
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.dates import Datetime
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_schema_search import NoiseTooLargeError, search_schema
from feller.data.tables.private_support import Charge, NoisyCounter
from feller.data.tables.schema_detection import CLASSES, majority_class, noisy_class_counts
from feller.data.tables.unmodelled_columns import FreeText, HiddenColumn
from feller.privacy.noise.grid_noise import SeededNoise


class Still:
    """No noise at all, or all of it alike."""

    def __init__(self, z: float = 0.0) -> None:
        self.z, self.drawn = z, 0

    def add_gaussian(self, values: torch.Tensor, scale: float) -> torch.Tensor:
        self.drawn += values.numel()
        return values + scale * self.z


class Seeded:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def add_gaussian(self, values: torch.Tensor, scale: float) -> torch.Tensor:
        return values + scale * torch.randn(values.shape, dtype=values.dtype, generator=self.generator)


def people(n: int = 2000) -> RawTable:
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


def extended(found: RawTable, row: list[str]) -> RawTable:
    more = RawTable(np.array([row], dtype=object), columns=found.columns)
    return RawTable(pyarrow.concat_tables([found.values, more.values]), columns=found.columns)


def test_kinds_and_domains() -> None:
    schema, charges, *_ = search_schema(people(), 5.0, 1e-6, Seeded(0))
    age, gain, flag, colour, born, note, gap = schema.columns
    assert isinstance(age, Numerical)
    assert age.low <= 18 <= 79 <= age.high <= 260  # an octave more than it needs, at most
    assert isinstance(gain, Numerical)
    assert gain.heavy == (0.0,)
    assert gain.form == NumberFormat(2)
    assert gain.high >= 15_000
    assert flag == Boolean("flag", "Yes", "No")
    assert isinstance(colour, Categorical)
    assert colour.values == ("blue", "green", "red")
    assert isinstance(born, Datetime)
    assert "1977-01-01" <= born.first <= "1980-01-01"
    assert "2009-12-31" <= born.last <= "2012-12-31"
    assert note == FreeText("note")
    assert isinstance(gap, Categorical)
    assert gap.values == ("x",)
    assert gap.code("?") == gap.num_codes - 1
    assert schema.outside == "impute"
    assert charges == (
        Charge("kinds of the columns", 5 / math.sqrt(7)),
        Charge("bounds of 2 columns of numbers", 5 / math.sqrt(2)),
        Charge("edges of 2 columns of numbers", 5 / math.sqrt(2)),
        Charge("years of 1 column of dates", 5.0),
        Charge("values of 4 columns of words", 5 / math.sqrt(4), 1e-6),
    )


def test_an_extreme_neighbour_changes_nothing_but_noisy_counts() -> None:
    """Where a count decides nothing by one alone, one row more, however strange, gives the very same schema."""
    found = people()
    for row in (
        ["999999", "-8e12", "maybe", "ultraviolet", "1901-01-01", "me", "secret"],
        ["soon", "12,5", "", "31.12.1999", "x", "1", "2020-01-01"],
    ):
        for sigma in (3.0, 10.0):
            assert (
                search_schema(extended(found, row), sigma, 1e-6, Still())[0]
                == search_schema(found, sigma, 1e-6, Still())[0]
            )


def test_the_noise_that_is_charged_is_that_of_the_counts() -> None:
    counts = NoisyCounter(7.0, Seeded(1)).counts([0], range(20_000), [50])
    values = np.array([counts[i] for i in range(20_000)])
    values[0] -= 50
    assert abs(values.std() - 7) < 0.2  # five standard errors
    assert abs(values.mean()) < 0.25


def test_low_digits_of_a_noisy_count_do_not_tell_it() -> None:
    """All are on the grid of the noise, 2^-34 of its scale rounded down to a power of two; a large count as well."""
    noisy, grid = NoisyCounter(5.0, SeededNoise(0, "counts")), 2.0 ** (2 - 34)
    counts = noisy.counts([0, 1], range(2000), [3, 1_000_000])
    words = dict(noisy.words({"a": 100, "b": 1000}, 1e-6))
    for count in (*counts.values(), *words.values()):
        assert count / grid == round(count / grid)
    assert abs(counts[1] - 1_000_000) < 40
    assert abs(words["b"] - 1000) < 40


def test_one_row_alone_is_released_with_the_stated_chance() -> None:
    """A word of one row passes with probability delta: 40,000 words, five standard errors."""
    delta = 0.01
    kept = NoisyCounter(4.0, Seeded(2)).words({f"w{i}": 1 for i in range(40_000)}, delta)
    assert abs(len(kept) / 40_000 - delta) < 5 * math.sqrt(delta / 40_000)
    noise = Still(norm.isf(delta) - 1e-9)
    assert NoisyCounter(4.0, noise).words({"a": 1}, delta) == []
    assert [word for word, _ in NoisyCounter(4.0, noise).words({"a": 1, "b": 2}, delta)] == ["b"]


def test_wrong_use() -> None:
    for sigma, delta in ((0.0, 1e-6), (1.0, 0.0), (1.0, 1.0), (math.inf, 0.1)):
        with pytest.raises(UsageError):
            search_schema(people(10), sigma, delta, Still())


def test_noise_that_drowns_all_refuses_after_the_first_look_and_charges_that_alone() -> None:
    """Two rows at a deviation of 5: nothing can stand out, so neither bounds nor values are looked at."""
    still = Still()
    cells = np.array([["a", "1"], ["b", "2"]], dtype=object)
    with pytest.raises(NoiseTooLargeError, match="noise hides") as told:
        search_schema(RawTable(cells, columns=("x", "y")), 5.0, 1e-9, still)
    assert told.value.hidden_columns == ("x", "y")
    assert told.value.charges == (Charge("kinds of the columns", 5 / math.sqrt(2)),)
    assert still.drawn == 2 * len(CLASSES)


def test_one_column_alone_that_is_told_is_refused_too() -> None:
    cells = np.array([["red", str(i % 2**12) + ".5"] for i in range(1, 301)], dtype=object)
    with pytest.raises(
        NoiseTooLargeError
    ) as told:  # numbers over twelve octaves: none holds enough rows, though their kind does
        search_schema(RawTable(cells, columns=("x", "y")), 45.0, 1e-3, Still())
    assert told.value.hidden_columns == ("y",)
    assert [charge.label.partition(" ")[0] for charge in told.value.charges] == ["kinds", "bounds", "edges", "values"]


def words(cells: list[str]) -> FactorizedColumn:
    return RawTable(np.array(cells, dtype=object)[:, None], columns=("x",)).factorize("x")


def test_noise_of_many_empty_formats_makes_no_column_one_of_dates() -> None:
    """450 rows, noise of 54 on each of 100 classes: the empty ones add up to far more than all rows.

    Some class stands out of the noise falsely in 1e-3 of the columns, and then still has fewer than the right one but
    for a chance of 1e-3: a false kind in 300 columns has the chance 3e-4, a hidden one 300 * 2.4e-5.
    """
    right = {"number": [str(32 + i % 32) for i in range(450)], "word": ["ab"[i % 2] for i in range(450)]}
    right["date:%Y-%m-%d"] = [f"201{i % 2}-05-17" for i in range(450)]
    told = Counter(
        (kind, majority_class(noisy_class_counts(words(cells), NoisyCounter(54.0, Seeded(seed)))))
        for kind, cells in right.items()
        for seed in range(100)
    )
    assert all(found in (kind, None) for kind, found in told)
    assert all(told[kind, kind] >= 99 for kind in right)


def test_what_no_count_tells_is_untold_and_not_empty() -> None:
    """Noise of 45 rows: a word needs some 215 of 450, a column of ten words could not have been seen."""
    rows = [["red", f"w{i % 10}", f"{19 + i % 2}50-01-01", str(40 + i % 20)] for i in range(450)]
    table = RawTable(np.array(rows, dtype=object), columns=("one", "ten", "date", "number"))
    schema, *_ = search_schema(table, 45.0, 1e-6, Still())
    assert schema.hidden_names == ("ten",)
    assert [type(column) for column in schema.columns] == [Categorical, HiddenColumn, Datetime, Numerical]
    plain, *_ = search_schema(table, 5.0, 1e-6, Still())
    assert plain.hidden_names == ()


def test_decades_tell_where_no_year_does() -> None:
    """Births over 60 years, 33 rows in each: no year passes 4.5 deviations of 10, each decade passes those of 31.6."""
    rows = [[f"{1940 + i % 60}-03-0{1 + i % 9}", "ab"[i % 2]] for i in range(2000)]
    table = RawTable(np.array(rows, dtype=object), columns=("born", "x"))
    schema, *_ = search_schema(table, 10.0, 1e-6, Still())
    assert isinstance(schema.columns[0], Datetime)
    assert (schema.columns[0].first, schema.columns[0].last) == ("1940-01-01", "1999-12-31")
    assert search_schema(table, 1.0, 1e-6, Still())[0].columns[0] == schema.columns[0]


def test_few_digits_are_told_by_counts_that_stand_out() -> None:
    """Noise of 20 would lift empty classes of digits over a twentieth of 400 rows; whole numbers stay whole."""
    rows = [[str(30 + i % 30), "ab"[i % 2]] for i in range(400)]
    table = RawTable(np.array(rows, dtype=object), columns=("age", "x"))
    for seed in range(10):  # false alarm: below 10 * 2 * 1e-3
        column = search_schema(table, 20.0, 1e-6, Seeded(seed))[0].columns[0]
        assert isinstance(column, Numerical)
        assert column.form == NumberFormat(0)


def test_what_becomes_of_rare_words_is_told_by_counts_that_are_paid_for() -> None:
    """Of 1,000 rows 400 have rare words: without noise the share is exact, and the threshold is the public one."""
    cells = ["a"] * 350 + ["b"] * 250 + [f"rare {i % 100}" for i in range(380)] + [""] * 20
    table = RawTable(np.array([[cell, str(i % 90)] for i, cell in enumerate(cells)], dtype=object), columns=("w", "n"))
    (told,) = search_schema(table, 5.0, 1e-6, Still()).kept_words
    assert (told.column, told.words, told.other_fraction) == ("w", 2, pytest.approx(0.38))
    assert told.rows == pytest.approx(1 + 5 * 4.753, abs=0.01)


def test_no_share_of_rare_words_is_told_that_noise_hides() -> None:
    """Ten rows are fewer than two deviations of the sum of three counts, 17 rows."""
    cells = ["a"] * 500 + ["b"] * 490 + [f"rare {i}" for i in range(10)]
    table = RawTable(np.array([[cell, str(i % 90)] for i, cell in enumerate(cells)], dtype=object), columns=("w", "n"))
    (told,) = search_schema(table, 5.0, 1e-6, Still()).kept_words
    assert (told.words, told.other_fraction) == (2, None)
