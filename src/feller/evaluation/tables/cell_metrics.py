"""Metrics of table cells before encoding: loss by the encoding, exact copies, means and quantiles.

Metrics of encoded rows do not show two kinds of errors. Cells outside a clipping schema are encoded as other values,
often as missing. Numbers are sampled uniformly within a bin, so bin frequencies can match while the mean of a long tail
is far off.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.data.loading.raw import TEXT, RawTable, text_array
from feller.data.tables.column import Categorical
from feller.data.tables.encoding import encode
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import MISSING, PLAIN

_ARROW: Any = pyarrow.compute  # its functions are generated at import
MAX_EXACT_UNITS = 2**53
"""Largest integer up to which float64 represents all integers exactly."""


def cell_loss(
    synthetic: Int64[Tensor, "n k"], real: RawTable | None, schema: Schema
) -> dict[str, float | int | str | None]:
    """Return the fractions of empty, clipped and merged cells, and the names of the columns that the schema omits.

    If `real` is None, or if the schema does not clip values, only the names of the omitted columns are returned.
    """
    hidden: dict[str, float | int | str | None] = (
        {"left_out": ", ".join(schema.hidden_names)} if schema.hidden_names else {}
    )
    if real is None or not len(real.values) or not len(synthetic) or not schema.clips:
        return hidden
    columns = schema.modelled
    ends = np.array([column.num_values for column in columns])
    may_miss = np.array([column.missing is not None for column in columns])
    made = (synthetic.cpu().numpy() == ends) & may_miss
    empty = sum(real.factorize(column.name).count_in((*MISSING, *column.words_for_missing)) for column in columns)
    outside = encode(real, schema).outside / len(real.values)
    clipped = outside.mean().item()
    worst = (
        {"clipped_max": outside.max().item(), "clipped_worst": columns[int(outside.argmax())].name} if clipped else {}
    )
    cells = len(columns) * len(real.values)
    shares = {"empty_real": empty / cells, "clipped": clipped, "merged": _num_merged(real, schema) / cells}
    return {"empty": float(made.mean()), **shares, **worst, "cells_real": cells, **hidden}


def _num_merged(real: RawTable, schema: Schema) -> int:
    """Count the cells whose value the schema does not list, so that it is read as the column's `other` value."""
    count = 0
    for column in schema.modelled:
        if isinstance(column, Categorical) and column.other is not None:
            own_words = (*column.values, column.other, *column.words_for_missing, *MISSING)
            count += len(real.values) - real.factorize(column.name).count_in(own_words)
    return count


def exact_row_fraction(made: RawTable, real: RawTable, schema: Schema) -> float:
    """Return the fraction of rows in `made` whose modelled cells equal those of a row in `real`, numbers by value."""
    pairs = [(made.factorize(column.name), real.factorize(column.name)) for column in schema.modelled]
    pairs.sort(key=lambda pair: -len(pair[1].uniques))  # most distinct values first: discards rows early
    rows, others = np.arange(len(made.values)), np.arange(len(real.values))
    row_keys, real_keys = np.zeros(len(rows), dtype=np.int64), np.zeros(len(others), dtype=np.int64)
    for ours, theirs in pairs:
        both = _values(pyarrow.concat_arrays([ours.uniques, theirs.uniques])).dictionary_encode()
        first, second = np.split(np.asarray(both.indices, dtype=np.int64), [len(ours.uniques)])
        row_keys = row_keys * len(both.dictionary) + first[ours.codes[rows]]
        real_keys = real_keys * len(both.dictionary) + second[theirs.codes[others]]
        alike, as_well = np.isin(row_keys, real_keys), np.isin(real_keys, row_keys)
        rows, others = rows[alike], others[as_well]
        _, numbers = np.unique(np.concatenate([row_keys[alike], real_keys[as_well]]), return_inverse=True)
        row_keys, real_keys = np.split(numbers, [len(rows)])
    return len(rows) / len(made.values) if len(made.values) else 0.0


_PLAIN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$"


def _values(words: pyarrow.Array) -> pyarrow.Array:
    """Return cells with numbers in a canonical form, without redundant signs and zeros."""
    words = _ARROW.utf8_trim_whitespace(words)
    body = _ARROW.ascii_ltrim(_ARROW.ascii_ltrim(words, "+-"), "0")
    cut = _ARROW.ascii_rtrim(_ARROW.ascii_rtrim(body, "0"), ".")
    body = _ARROW.if_else(_ARROW.match_substring(body, "."), cut, body)
    bare, nothing = _ARROW.equal(body, ""), pyarrow.scalar("", TEXT)
    below = _ARROW.and_not(_ARROW.starts_with(words, "-"), bare)
    sign = _ARROW.if_else(below, pyarrow.scalar("-", TEXT), nothing)
    nought = _ARROW.if_else(bare, pyarrow.scalar("0", TEXT), nothing)
    numbers = _ARROW.binary_join_element_wise(sign, body, nought, nothing)
    found = _ARROW.if_else(_ARROW.match_substring_regex(words, _PLAIN), numbers, words)
    powers = _ARROW.match_substring_regex(found, "^[+-]?[0-9.]+[eE]")
    if not _ARROW.any(powers).as_py():
        return found
    return _ARROW.replace_with_mask(
        found, powers, text_array([*map(_normalize_number, found.filter(powers).to_pylist())])
    )


def _normalize_number(cell: str) -> str:
    """Return a number in scientific notation in canonical form; other text unchanged."""
    number = PLAIN.read(cell)
    return cell if number is None else _values(text_array([f"{number:f}"]))[0].as_py()


QUANTILES = (0.05, 0.5, 0.95)
FAR_OFF_FRACTION = 0.25
"""Maximum error of the mean, as a fraction of the smaller of real mean and real standard deviation, and of a quantile,
as a fraction of the range of the real quantiles."""
NUM_STANDARD_ERRORS = 4
"""Number of standard errors that a significant difference of means exceeds."""


@dataclass(frozen=True)
class ColumnStatistics:
    """Mean, standard deviation and quantiles of the numbers in a column."""

    count: int
    mean: float
    deviation: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class NumberColumnPair:
    """Statistics of a numeric column in the synthetic table and in the real table."""

    name: str
    synthetic: ColumnStatistics
    real: ColumnStatistics

    @property
    def is_far_off(self) -> bool:
        """True if the error of the mean or of a quantile exceeds `FAR_OFF_FRACTION`.

        The error of the mean must also be significant.
        """
        made, real = self.synthetic, self.real
        error = math.hypot(made.deviation / math.sqrt(made.count), real.deviation / math.sqrt(real.count))
        bound = max(
            NUM_STANDARD_ERRORS * error, FAR_OFF_FRACTION * min(real.deviation, abs(real.mean) or real.deviation)
        )
        width = real.quantiles[-1] - real.quantiles[0]
        apart = max(abs(a - b) for a, b in zip(made.quantiles, real.quantiles, strict=True))
        return abs(made.mean - real.mean) > bound or (width > 0 and apart > FAR_OFF_FRACTION * width)


def number_columns(made: RawTable, real: RawTable, schema: Schema) -> Sequence[NumberColumnPair]:
    """Return statistics of each numeric column in both tables; columns without numbers in one of them are skipped."""
    return tuple(_number_column_pairs(made, real, schema))


def _number_column_pairs(made: RawTable, real: RawTable, schema: Schema) -> Iterator[NumberColumnPair]:
    for column in schema.modelled:
        if isinstance(column, Numerical):
            both = [_numbers(column, table) for table in (made, real)]
            if all(map(len, both)):
                yield NumberColumnPair(column.name, *map(_column_statistics, both))


def _numbers(column: Numerical, table: RawTable) -> Float64[np.ndarray, " n"]:
    words, form = table.factorize(column.name), column.form
    read = form.parse(words.uniques)
    numbers, valid = read.units / 10**form.decimals, read.valid & ~words.is_in(column.words_for_missing)
    for i in np.flatnonzero(valid & (~read.exact | (abs(read.units) >= MAX_EXACT_UNITS))):  # not exact in units
        numbers[i] = float(form.read(words.uniques[i].as_py()) or 0)
    return numbers[words.codes][valid[words.codes]]


def _column_statistics(numbers: Float64[np.ndarray, " n"]) -> ColumnStatistics:
    quantiles = tuple(float(one) for one in np.quantile(numbers, QUANTILES))
    return ColumnStatistics(len(numbers), float(numbers.mean()), float(numbers.std()), quantiles)
