"""Numerical columns of a table, with rounded bounds and bin edges."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import ClassVar

import numpy as np
import pyarrow
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError
from feller.data.tables.bins import Bins, check_binned, equal_starts
from feller.data.tables.column import WITHOUT_NAME, ModelledColumn, check_words
from feller.data.tables.constraints import parse_inequality
from feller.data.tables.number_format import NumberFormat
from feller.spaces import CategoryTokenizer, ColumnTokenizer, DigitTokenizer

BinCounts = Int64[np.ndarray, " m"] | Float64[np.ndarray, " m"]
BINS = 20
"""Default number of equal-width bins."""


@dataclass(frozen=True)
class Numerical(ModelledColumn):
    """Column of numbers from `low` to `high` in bins [edge, next edge); the last bin includes `high`.

    Heavy (frequent) values have their own codes. With `digits`, each number has its own code, and `levels` are the
    bins.
    """

    is_ordered: ClassVar[bool] = True
    name: str  # pyrefly: ignore
    low: float
    high: float
    edges: tuple[float, ...] = ()
    """Bin edges between low and high."""
    bins: int | None = None
    """Number of equal-width bins; an alternative to `edges`."""
    heavy: tuple[float, ...] = ()
    """Frequent values with their own codes."""
    digits: bool = False
    """True if the model generates the number digit by digit."""
    form: NumberFormat = field(default_factory=NumberFormat)
    missing: str | None = None  # pyrefly: ignore
    also_missing: tuple[str, ...] = ()  # pyrefly: ignore
    dtype: str | None = None  # pyrefly: ignore
    numbers: tuple[float, ...] = ()
    """The only numbers that occur, ascending, each with its own code; an alternative to edges, bins and heavy
    values."""
    knots: tuple[float, ...] = ()
    """Numbers between low and high that divide bins further: numbers are uniform between knots."""
    weights: tuple[float, ...] = ()
    """Relative frequency of the numbers in each interval between knots; one more than knots."""

    def __post_init__(self) -> None:
        check_words(self.name, self.words_for_missing, "the word")
        if bool(self.knots) != bool(self.weights):
            raise InputError(expected="both knots and weights, or neither", column=self.name)
        if self.numbers and (self.edges or self.knots or self.bins is not None or self.heavy or self.digits):
            raise InputError(expected="either numbers, or edges, bins, heavy values or digits", column=self.name)
        if self.numbers and (self.low, self.high) != (self.numbers[0], self.numbers[-1]):
            raise InputError(
                "low and high equal to the first and last of the numbers",
                f"{self.low:g} and {self.high:g}",
                column=self.name,
            )
        if not self.low <= self.high:
            raise InputError("low below high", f"{self.low:g} and {self.high:g}", column=self.name)
        check_binned(self)

    @cached_property
    def levels(self) -> Bins:
        """Bins of the numbers, as integers in units of the last decimal place."""

        def units(number: float, label: str) -> int:
            return self.form.exact(number, self.name, label)

        low, high = units(self.low, "low"), units(self.high, "high")
        if self.numbers:
            return Bins((low,), high, tuple(units(number, "the number") for number in self.numbers), True)
        edges = tuple(units(edge, "the edge") for edge in self.edges)
        starts = (low, *edges) if edges else equal_starts(low, high, self.bins or BINS)
        heavy = tuple(units(value, "the heavy value") for value in self.heavy)
        knots = tuple(units(knot, "the knot") for knot in self.knots)
        return Bins(starts, high, heavy, False, knots, self.weights)

    @property
    def field(self) -> ColumnTokenizer:
        levels = self.levels
        if not self.digits:
            return CategoryTokenizer(self.num_codes, self.num_values)
        return DigitTokenizer(levels.starts[0], levels.last, self.missing is not None)

    @property
    def num_values(self) -> int:
        return self.levels.last - self.levels.starts[0] + 1 if self.digits else self.levels.count

    @property
    def value_names(self) -> tuple[str, ...]:
        return tuple(self._span(i) for i in range(self.levels.count)) if not self.digits else self._each

    @property
    def _each(self) -> tuple[str, ...]:
        return tuple(map(self.form.write, range(self.levels.starts[0], self.levels.last + 1)))

    def _span(self, level: int) -> str:
        first, last = self.levels.span(level)
        return self.form.write(first) if first == last else f"{self.form.write(first)} to {self.form.write(last)}"

    @property
    def level_names(self) -> tuple[str, ...]:
        names = tuple(self._span(i) for i in range(self.levels.count))
        return names if self.missing is None else (*names, self.missing or WITHOUT_NAME)

    def to_levels(self, codes: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        if not self.digits:
            return codes
        unique_codes, inverse = np.unique(codes, return_inverse=True)
        levels = self.levels.codes(unique_codes + self.levels.starts[0])
        return np.where(levels < 0, self.levels.count, levels)[inverse]

    def from_levels(
        self, levels: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, " n"]:
        """Return the code of each level: the level itself, or with `digits` the code of a random number in its bin.

        `uniforms`, uniform random numbers in [0, 1), choose the numbers.
        """
        if not self.digits:
            return levels
        codes, is_value = np.full(len(levels), self.num_values, dtype=np.int64), levels < self.levels.count
        codes[is_value] = (
            self.levels.draw(levels[is_value], uniforms[is_value].clip(0, 1 - 2**-53)) - self.levels.starts[0]
        )
        return codes

    @property
    def allowed_text(self) -> str:
        missing = "" if self.missing is None else f", or {self.missing or WITHOUT_NAME}"
        if self.numbers:
            return f"one of {', '.join(f'{number:g}' for number in self.numbers[:20])}{missing}"
        return f"a number from {self.low:g} to {self.high:g}{missing}"

    def units(self, text: str) -> Decimal | None:
        """Return a number as an integer in units of the last decimal place; None if the text is not a number."""
        number = self.form.read(text)
        return None if number is None else number.scaleb(self.form.decimals)

    def nearest_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the code of `low` for numbers below it, the code of `high` for other numbers, and -1 for other cells.

        Call it only with cells without a code: numbers within the bounds would also get the code of `high`. If only
        certain numbers occur, the code is that of the nearest one.
        """
        parsed, bounds = self.form.parse(words), np.array([self.levels.starts[0], self.levels.last])
        if self.numbers:
            middles = (np.array(self.levels.heavy[1:], dtype=np.float64) + np.array(self.levels.heavy[:-1])) / 2
            return np.where(parsed.valid, np.searchsorted(middles, parsed.units), -1)
        lowest, highest = bounds - bounds[0] if self.digits else self.levels.codes(bounds)
        return np.where(parsed.valid, np.where(parsed.units < bounds[0], lowest, highest), -1)

    def value_codes(self, words: pyarrow.Array) -> Int64[np.ndarray, " n"]:
        """Return the code of each cell with a number within the bounds; -1 for other cells."""
        parsed = self.form.parse(words)
        first, last = self.levels.starts[0], self.levels.last
        units = parsed.units
        is_inside = (units < last) & (parsed.exact | (not self.numbers))
        is_within = parsed.valid & (units >= first) & (is_inside | ((units == last) & parsed.exact))
        return np.where(is_within, units - first if self.digits else self.levels.codes(units), -1)

    def value_cells(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> pyarrow.Array:
        return self.form.texts(codes + self.levels.starts[0] if self.digits else self.levels.draw(codes, uniforms))

    def matching(self, text: str) -> Bool[np.ndarray, " count"]:
        """Return the mask of codes that satisfy a condition.

        `text` is a number, or a comparison such as < 15 whose limit lies at the edge of a bin.
        """
        inequality = parse_inequality(text)
        if inequality is None:
            mask = super().matching(text)
            return mask if self.digits else self.levels.check_alone(mask, self.name, text)
        number = self.form.read(inequality.bound)
        if number is None:
            raise InputError(expected=f"a number in {inequality.text!r}", column=self.name)
        return inequality.mask(self._value_bounds, number.scaleb(self.form.decimals), self.name, self.num_codes)

    @property
    def _value_bounds(self) -> list[tuple[int, int]]:
        if self.digits:
            return [(number, number) for number in range(self.levels.starts[0], self.levels.last + 1)]
        return [self.levels.value_bounds(code) for code in range(self.levels.count)]


SINGLE = 64
"""Maximum number of possible values between the bounds if each value is to have its own bin."""
PARTS = 20
"""Number of quantile bins if the values do not have their own bins."""
ROOMY = 50
"""Minimum number of rows per value if more than PARTS values are each to have their own bin."""
MIN_TAIL_RATIO = 2
"""Ratio of a bound to the outermost bin edge above which round edges are inserted between the two."""
HEAVY = 0.05
"""Fraction of rows with the same value above which that value has its own code."""


def round_step(width: Decimal, *, up: bool) -> Decimal:
    """Round a width up or down to 1, 2 or 5 times a power of ten."""
    power = Decimal(1).scaleb(width.adjusted())
    steps = [power * i for i in (1, 2, 5, 10)]
    return (
        next(step for step in steps if step >= width) if up else next(step for step in reversed(steps) if step <= width)
    )


def bounds_around(least: Decimal, largest: Decimal, unit: Decimal) -> tuple[Decimal, Decimal]:
    """Return a round lower and upper bound that enclose the range from `least` to `largest`.

    The bounds include negative numbers only if `least` is negative, and positive numbers only if `largest` is positive.
    `unit` is the place value of the last decimal of the column's numbers, the minimum step to which bounds are rounded.
    """
    step = max(unit, round_step(max(largest - least, unit) / PARTS, up=True))
    low, high = math.floor(least / step) * step, math.ceil(largest / step) * step
    low, high = low - step if low == least != 0 else low, high + step if high == largest != 0 else high
    return (max(low, Decimal(0)) if least >= 0 else low), (min(high, Decimal(0)) if largest <= 0 else high)


def numerical_column(
    name: str,
    units: Int64[np.ndarray, " m"],
    counts: Int64[np.ndarray, " m"],
    form: NumberFormat,
    missing: str | None = None,
    also_missing: tuple[str, ...] = (),
    dtype: str | None = None,
    *,
    exact: Bool[np.ndarray, " m"] | None = None,
) -> Numerical:
    """Detect bounds, bins and heavy values of a numerical column from value counts.

    Args:
        name: Column name.
        units: Distinct numbers, in units of the last decimal place.
        counts: Number of cells with each number.
        form: Number format of the cells.
        missing: Text of a missing cell.
        also_missing: Other texts of a missing cell.
        dtype: Pandas dtype of the column.
        exact: True for numbers that were not rounded down to a multiple of the unit (default: all).
    """
    unit = Decimal(1).scaleb(-form.decimals)
    n = int(counts.sum())
    order = np.argsort(units, kind="stable")
    units, counts = units[order], counts[order]
    low, high = bounds_around(int(units[0]) * unit, int(units[-1]) * unit, unit)
    num_values = int((high - low) / unit) + 1
    if num_values <= PARTS or (num_values <= SINGLE and n >= ROOMY * num_values):
        edges, heavy, bins = (), (), num_values
    else:
        is_heavy = (counts >= HEAVY * n) & (True if exact is None else exact[order])
        heavy, bins = tuple(float(number * unit) for number in units[is_heavy].tolist()), None
        light_units, light_counts = units[~is_heavy], counts[~is_heavy]
        edges = quantile_edges(lambda i: int(light_units[i]) * unit, light_counts, low, high, unit)
        edges = (*_tail(low, edges[0]), *edges, *_tail(high, edges[-1])) if edges else ()
    num_bins = bins if not edges else None
    return Numerical(name, float(low), float(high), edges, num_bins, heavy, False, form, missing, also_missing, dtype)


def quantile_edges(
    value: Callable[[int], Decimal], counts: BinCounts, low: Decimal, high: Decimal, unit: Decimal, parts: int = PARTS
) -> tuple[float, ...]:
    """Return the inner edges of bins with about equal counts, as round numbers.

    Args:
        value: Increasing function from an index to the number that it stands for.
        counts: Number of rows with each index, [m].
        low: Lower bound.
        high: Upper bound.
        unit: Place value of the last decimal of the column's numbers.
        parts: Number of bins.
    """
    total = sum(counts.tolist())
    targets = [(i + 1) * total / parts for i in range(parts - 1)]
    indices = np.searchsorted(np.cumsum(counts), targets, side="left") if len(counts) else np.zeros(0, dtype=np.int64)
    knots = [low, *(value(int(index)) for index in indices if index < len(counts)), high]
    edges = {_near(knots, i, unit, finest(high - low)) for i in range(1, len(knots) - 1)}
    return tuple(float(edge) for edge in sorted(edges) if low < edge <= high)


def _tail(bound: Decimal, edge: float) -> tuple[float, ...]:
    """Return 1, 2 or 5 times powers of ten between the outermost edge and a distant bound on its side of zero.

    They depend on these two only, and reveal nothing more about the few rows there.
    """
    outermost, sign = Decimal(repr(edge)), -1 if bound < 0 else 1
    if outermost * sign <= 0 or bound / outermost < MIN_TAIL_RATIO:
        return ()
    edges, step = [], round_step(abs(outermost) * 3 / 2, up=True)
    while step * 5 / 4 < abs(bound):
        edges.append(float(step * sign))
        step = round_step(step * 3 / 2, up=True)
    return tuple(sorted(edges))


def _near(knots: Sequence[Decimal], i: int, unit: Decimal, range_unit: Decimal) -> Decimal:
    """Round the bin edge `knots[i]` to three digits, of itself or of the range of all edges.

    It moves by less than half the distance to its neighbours.
    """
    gap = (knots[i + 1] - knots[i - 1]) / 4
    edge_unit = finest(knots[i]) if knots[i] else range_unit
    step = max(unit, min(range_unit, edge_unit), round_step(gap, up=False) if gap > 0 else unit)
    return round(knots[i] / step) * step


def finest(span: Decimal) -> Decimal:
    """Return the unit to which bin edges are rounded: the place value of the third significant digit of `span`.

    `span` is the upper bound minus the lower bound of the column.
    """
    return Decimal(1).scaleb(span.adjusted() - 2)
