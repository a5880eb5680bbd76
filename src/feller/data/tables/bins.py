"""Binning of integers, with codes of their own for frequent values."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from feller.core.errors import InputError

MAX_NUMBER = 2**62
"""Upper bound, exclusive, on the absolute value of integers."""


@dataclass(frozen=True)
class Bins:
    """Bins of integers, and heavy values: frequent integers with a code of their own.

    Codes ascend with the integers. A heavy value that is the first integer of a bin has a lower code than the bin.
    """

    starts: tuple[int, ...]
    """First integer of each bin, ascending."""
    last: int
    """Last integer of the last bin."""
    heavy: tuple[int, ...] = ()
    """Heavy values, which have codes of their own, ascending."""
    is_list: bool = False
    """True if the heavy values are the only integers that have codes."""
    knots: tuple[int, ...] = ()
    """Integers that divide the range into intervals in which integers are uniform, ascending; each interval starts with
    a knot. By default integers are uniform within bins."""
    weights: tuple[float, ...] = ()
    """Relative frequency of each interval between knots; one more than knots."""

    def __post_init__(self) -> None:
        is_ascending = all(a < b for a, b in pairwise(self.starts)) and all(a < b for a, b in pairwise(self.heavy))
        if not self.starts or not is_ascending or self.last < self.starts[-1]:
            raise InputError(
                expected="bin edges and `heavy` values (with a bin of their own) in ascending order within the bounds"
            )
        if max(abs(self.starts[0]), abs(self.last)) >= MAX_NUMBER:
            raise InputError(expected="bounds with fewer than 19 digits", remedy="Use fewer decimals")
        if self.weights and (
            len(self.weights) != len(self.knots) + 1
            or min(self.weights) <= 0
            or not all(a < b for a, b in pairwise((self.starts[0], *self.knots, self.last + 1)))
        ):
            raise InputError(
                expected="`knots` in ascending order within the bounds, and one more of `weights`, above 0"
            )
        if self.heavy and not self.starts[0] <= self.heavy[0] <= self.heavy[-1] <= self.last:
            raise InputError(expected="`heavy` values (with a bin of their own) within the bounds of the column")

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        return (*(start - 1 for start in self.starts[1:]), self.last)

    @cached_property
    def _entries(self) -> list[tuple[int, int]]:
        """First and last integer of each code: single integers in `heavy`, and bins that contain other integers too."""
        singletons = [(value, value) for value in self.heavy]
        bins = [
            (start, end)
            for start, end in zip(self.starts, self._ends, strict=True)
            if not self.is_list and end - start + 1 > sum(start <= value <= end for value in self.heavy)
        ]
        return [*sorted({*singletons, *bins}, key=lambda entry: (entry[0], entry not in singletons))]

    @cached_property
    def _code_of_heavy(self) -> dict[int, int]:
        return {first: i for i, (first, last) in enumerate(self._entries) if first == last and first in self.heavy}

    @cached_property
    def _codes_of_bins(self) -> tuple[list[int], list[int]]:
        """Starts of the bins that are not omitted, and their codes."""
        bin_codes = [(first, i) for i, (first, last) in enumerate(self._entries) if self._code_of_heavy.get(first) != i]
        return [first for first, _ in bin_codes], [i for _, i in bin_codes]

    @property
    def count(self) -> int:
        """Number of codes of bins and heavy values."""
        return len(self._entries)

    def span(self, code: int) -> tuple[int, int]:
        """Return the first and last integer that a code stands for."""
        return self._entries[code]

    def value_bounds(self, code: int) -> tuple[int, int]:
        """Return the first and last integer that a code stands for; heavy values at the ends of a bin are left out."""
        first, last = self.span(code)
        if first < last:
            while first in self.heavy:
                first += 1
            while last in self.heavy:
                last -= 1
        return first, last

    def check_alone(self, mask: Bool[np.ndarray, " count"], name: str, text: str) -> Bool[np.ndarray, " count"]:
        """Check that the code of a value stands for this value alone; return `mask` unchanged.

        Args:
            mask: True for the code of the value, False for all other codes.
            name: Name of the column, for the error.
            text: Text of the value, for the error.

        Raises:
            InputError: If the code stands for several integers.
        """
        code = int(mask.argmax())
        if code < self.count and self.value_bounds(code)[0] < self.value_bounds(code)[1]:
            raise InputError(
                f"{text!r} is in a bin with other values, so the rule cannot be enforced",
                remedy="Give this value a bin of its own: list a number in `heavy` of the column in the schema, or add"
                " bin edges on both sides of the value to `edges`",
                column=name,
            )
        return mask

    def codes(self, numbers: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the codes of integers; -1 for integers outside of all bins."""
        starts, bin_codes = self._codes_of_bins
        codes = np.full(len(numbers), -1, dtype=np.int64)
        if starts:
            codes = np.array(bin_codes, dtype=np.int64)[
                np.maximum(np.searchsorted(starts, numbers, side="right") - 1, 0)
            ]
        for value, code in self._code_of_heavy.items():
            codes[numbers == value] = code
        return np.where((numbers < self.starts[0]) | (numbers > self.last), -1, codes)

    def within(self, code: int, spans: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], int]:
        """Return which of the integers that a code stands for lie in given spans, and how many integers it stands for.

        Heavy values inside a bin have codes of their own, so the code of the bin does not stand for them.

        Args:
            code: Code of a bin or of a heavy value.
            spans: First and last integer of each span; spans are disjoint.

        Returns:
            Ranges [begin, end) of positions in the ascending list of all integers that the code stands for; and the
            length of this list.
        """
        first, last = self.span(code)
        heavy = [] if first == last else [value for value in self.heavy if first <= value <= last]

        def index_of(number: int) -> int:
            return number - first - sum(value < number for value in heavy)

        index_ranges = [
            (index_of(max(a, first)), index_of(min(b, last) + 1)) for a, b in spans if a <= last and b >= first
        ]
        return [(begin, end) for begin, end in index_ranges if begin < end], index_of(last + 1)

    @cached_property
    def _firsts(self) -> Int64[np.ndarray, " count"]:
        return np.array([first for first, _ in self._entries], dtype=np.int64)

    @cached_property
    def is_wide(self) -> Bool[np.ndarray, " count"]:
        """True for each code of a bin, False for the codes of single integers."""
        return np.array([first < last for first, last in self._entries])

    @cached_property
    def sizes(self) -> Int64[np.ndarray, " count"]:
        """Number of integers that each code stands for."""
        return np.array([self.within(code, ())[1] for code in range(self.count)], dtype=np.int64)

    def _ranks(self, codes: Int64[np.ndarray, " n"], values: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the number of integers that each code stands for and that are smaller than the value."""
        firsts, is_bin = self._firsts[codes], self.is_wide[codes]
        below = sum(is_bin & (firsts <= heavy) & (heavy < values) for heavy in self.heavy)
        return values - firsts - below

    def draw_between(
        self,
        codes: Int64[np.ndarray, " n"],
        lows: Int64[np.ndarray, " n"],
        highs: Int64[np.ndarray, " n"],
        uniforms: Float64[np.ndarray, " n"],
    ) -> Int64[np.ndarray, " n"]:
        """Sample an integer for each code, uniformly within the code and between two bounds, which are included."""
        begin, end = self._ranks(codes, lows), self._ranks(codes, highs + 1)
        samples = self._firsts[codes] + begin + np.minimum((uniforms * (end - begin)).astype(np.int64), end - begin - 1)
        for heavy in self.heavy:  # in ascending order, skip each heavy value
            samples = samples + (self.is_wide[codes] & (self._firsts[codes] <= heavy) & (samples >= heavy))
        return samples

    def middles(self, codes: Int64[np.ndarray, " n"], values: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return, for each integer of a code, the middle of the uniform numbers for which `draw` returns it."""
        positions = (self._ranks(codes, values) + 0.5) / self.sizes[codes]
        if self.weights:
            for code in np.unique(codes):
                positions[codes == code] = self.shares(int(code), positions[codes == code])
        return positions.clip(0, 1 - 2**-53)

    def draw(self, codes: Int64[np.ndarray, " n"], uniforms: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Sample an integer for each code, uniformly within the code, given uniform random numbers in [0, 1)."""
        integers = np.empty(len(codes), dtype=np.int64)
        for code in np.unique(codes):
            first, last = self.span(int(code))
            mask = codes == code
            heavy = [] if first == last else [value for value in self.heavy if first <= value <= last]
            num_values = last - first + 1 - len(heavy)
            positions = self.positions(int(code), uniforms[mask])
            samples = first + np.minimum((positions * num_values).astype(np.int64), num_values - 1)
            for value in heavy:  # in ascending order, skip each heavy value
                samples += samples >= value
            integers[mask] = samples
        return integers

    def shares(self, code: int, positions: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Return the probability that an integer sampled within a code is before a position, from 0 to 1 in the code.

        It is also the uniform random number for which `draw` returns the integer at this position.
        """
        points, shares = self._shape(code)
        return positions if points is None else np.interp(positions, points, shares)

    def positions(self, code: int, uniforms: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Map uniform random numbers to positions within a code, from 0 to 1; the inverse of `shares`."""
        points, shares = self._shape(code)
        return uniforms if points is None else np.interp(uniforms, shares, points)

    def _shape(self, code: int) -> tuple[Float64[np.ndarray, " m"] | None, Float64[np.ndarray, " m"]]:
        """Return positions within a code and the probability before each; None if integers in it are uniform."""
        first, last = self.span(code)
        if not self.weights or first == last:
            return None, np.zeros(0)
        bounds = np.array([self.starts[0], *self.knots, self.last + 1], dtype=np.float64)
        points = np.unique([first, *np.clip(bounds, first, last + 1), last + 1])
        masses = np.interp(points, bounds, np.concatenate([[0.0], np.cumsum(self.weights)]))
        if masses[-1] <= masses[0]:
            return None, np.zeros(0)
        return (points - first) / (last + 1 - first), (masses - masses[0]) / (masses[-1] - masses[0])


def check_binned(column: Any) -> None:
    """Raise an InputError if a column has both `edges` and `bins`, or its bins are invalid."""
    if column.bins is not None and (column.edges or column.bins < 1):
        raise InputError(expected="either edges, or a number of bins of at least 1", column=column.name)
    try:
        _ = column.levels
    except InputError as error:
        raise error.with_context(column=column.name) from None


def equal_starts(first: int, last: int, bins: int) -> tuple[int, ...]:
    """Return the first integer of each of `bins` equal-width bins of the integers from `first` to `last`.

    If there are fewer integers than bins, each integer is a bin.
    """
    num_values = last - first + 1
    return tuple(first + num_values * i // min(bins, num_values) for i in range(min(bins, num_values)))
