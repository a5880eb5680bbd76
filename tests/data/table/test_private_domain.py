"""A domain found privately: only noisy counts decide, and each is charged."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from feller.data.found import FoundTable
from feller.data.table.categorical import Boolean, Categorical
from feller.data.table.dates import Datetime
from feller.data.table.form import NumberForm
from feller.data.table.numerical import Numerical
from feller.data.table.private import Charge, Noisy, find_domain
from feller.data.table.unmodelled import FreeText
from feller.errors import InputError, UsageError


class Still:
    """No noise at all, or all of it alike."""

    def __init__(self, z: float = 0.0) -> None:
        self.z, self.drawn = z, 0

    def normal(self, shape, dtype=torch.float32, device="cpu") -> torch.Tensor:
        self.drawn += math.prod(shape)
        return torch.full(tuple(shape), self.z, dtype=dtype)


class Seeded:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, shape, dtype=torch.float32, device="cpu") -> torch.Tensor:
        return torch.randn(tuple(shape), dtype=dtype, generator=self.generator)


def people(n: int = 2000) -> FoundTable:
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
    return FoundTable(np.array(rows, dtype=object), columns=names)


def extended(found: FoundTable, row: list[str]) -> FoundTable:
    return FoundTable(np.concatenate([found.values, np.array([row], dtype=object)]), columns=found.columns)


def test_kinds_and_domains() -> None:
    schema, charges = find_domain(people(), 5.0, 1e-6, Seeded(0))
    age, gain, flag, colour, born, note, gap = schema.columns
    assert isinstance(age, Numerical)
    assert age.low <= 18 <= 79 <= age.high <= 140
    assert isinstance(gain, Numerical)
    assert gain.heavy == (0.0,)
    assert gain.form == NumberForm(2)
    assert gain.high >= 15_000
    assert flag == Boolean("flag", "Yes", "No", "", flag.also_missing)  # pyrefly: ignore
    assert isinstance(colour, Categorical)
    assert colour.values == ("blue", "green", "red")
    assert isinstance(born, Datetime)
    assert (born.first, born.last) == ("1980-01-01", "2009-12-31")
    assert note == FreeText("note")
    assert isinstance(gap, Categorical)
    assert gap.values == ("x",)
    assert gap.code("?") == gap.count - 1
    assert schema.outside == "clip"
    assert charges == (
        Charge("kinds of the columns", 5 / math.sqrt(7)),
        Charge("bounds of 2 columns of numbers", 5 / math.sqrt(2)),
        Charge("edges of 2 columns of numbers", 5 / math.sqrt(2)),
        Charge("years of 1 columns of dates", 5.0),
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
                find_domain(extended(found, row), sigma, 1e-6, Still())[0]
                == find_domain(found, sigma, 1e-6, Still())[0]
            )


def test_the_noise_that_is_charged_is_that_of_the_counts() -> None:
    counts = Noisy(7.0, Seeded(1)).counts([0] * 50, range(20_000))
    values = np.array([counts[i] for i in range(20_000)])
    values[0] -= 50
    assert abs(values.std() - 7) < 0.2  # five standard errors
    assert abs(values.mean()) < 0.25


def test_one_row_alone_is_released_with_the_stated_chance() -> None:
    """A word of one row passes with probability delta: 40,000 words, five standard errors."""
    delta = 0.01
    kept = Noisy(4.0, Seeded(2)).words([f"w{i}" for i in range(40_000)], delta)
    assert abs(len(kept) / 40_000 - delta) < 5 * math.sqrt(delta / 40_000)
    noise = Still(norm.isf(delta) - 1e-9)
    assert Noisy(4.0, noise).words(["a"], delta) == []
    assert [word for word, _ in Noisy(4.0, noise).words(["a", "b", "b"], delta)] == ["b"]


def test_wrong_use() -> None:
    for sigma, delta in ((0.0, 1e-6), (1.0, 0.0), (1.0, 1.0), (math.inf, 0.1)):
        with pytest.raises(UsageError):
            find_domain(people(10), sigma, delta, Still())
    with pytest.raises(InputError, match="spend more on the domain"):
        find_domain(FoundTable(np.array([["a"], ["b"]], dtype=object), columns=("x",)), 5.0, 1e-9, Still())
