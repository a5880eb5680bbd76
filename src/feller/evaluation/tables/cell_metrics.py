"""Metrics of table cells before encoding: loss by the encoding, exact copies, means and quantiles.

Metrics of encoded rows do not show two kinds of errors. If the schema clips values, a cell whose value the schema does
not allow is encoded as another value, often as missing. Numbers are sampled uniformly within a bin, so bin frequencies
can match while the mean of a long tail is far off.
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
from feller.data.tables.transforms import modelled_cells

_ARROW: Any = pyarrow.compute  # its functions are generated at import
MAX_EXACT_UNITS = 2**53
"""Largest integer up to which float64 represents all integers exactly."""


def cell_loss(
    synthetic: Int64[Tensor, "n k"], real: RawTable | None, schema: Schema
) -> dict[str, float | int | str | None]:
    """Return the fractions of empty, clipped and merged cells, and the names of the hidden columns.

    A hidden column is left out of the model and of synthetic rows, since privacy noise hides its contents. A cell
    is clipped if its value is not allowed by the schema. It is merged if its value is not listed, so that it is read as
    the column's value for all other words.

    If `real` is None, or if the schema does not clip values, only the names of the hidden columns are returned.
    """
    hidden: dict[str, float | int | str | None] = (
        {"left_out": ", ".join(schema.hidden_names)} if schema.hidden_names else {}
    )
    if real is None or not len(real.values) or not len(synthetic) or not schema.clips:
        return hidden
    columns = schema.modelled
    missing_codes = np.array([column.num_values for column in columns])
    may_miss = np.array([column.missing is not None for column in columns])
    is_missing = (synthetic.cpu().numpy() == missing_codes) & may_miss
    amounts = modelled_cells(real, schema)
    num_empty = sum(
        amounts.factorize(column.name).count_in((*MISSING, *column.words_for_missing)) for column in columns
    )
    outside = encode(real, schema).outside / len(real.values)
    clipped = outside.mean().item()
    worst_column = (
        {"clipped_max": outside.max().item(), "clipped_worst": columns[int(outside.argmax())].name} if clipped else {}
    )
    total = len(columns) * len(real.values)
    fractions = {"empty_real": num_empty / total, "clipped": clipped, "merged": _num_merged(real, schema) / total}
    return {"empty": float(is_missing.mean()), **fractions, **worst_column, "cells_real": total, **hidden}


def _num_merged(real: RawTable, schema: Schema) -> int:
    """Count the cells whose value the schema does not list, so that it is read as the column's `other` value."""
    count = 0
    for column in schema.modelled:
        if isinstance(column, Categorical) and column.other is not None:
            listed_values = (*column.values, column.other, *column.words_for_missing, *MISSING)
            count += len(real.values) - real.factorize(column.name).count_in(listed_values)
    return count


def exact_row_fraction(made: RawTable, real: RawTable, schema: Schema) -> float:
    """Return the fraction of rows in `made` whose modelled cells equal those of a row in `real`.

    Numbers are equal if they have the same value, whatever their format.
    """
    pairs = [(made.factorize(column.name), real.factorize(column.name)) for column in schema.modelled]
    pairs.sort(key=lambda pair: -len(pair[1].uniques))  # most distinct values first: discards rows early
    rows, real_rows = np.arange(len(made.values)), np.arange(len(real.values))
    row_keys, real_keys = np.zeros(len(rows), dtype=np.int64), np.zeros(len(real_rows), dtype=np.int64)
    for made_cells, real_cells in pairs:
        values = _values(pyarrow.concat_arrays([made_cells.uniques, real_cells.uniques])).dictionary_encode()
        made_codes, real_codes = np.split(np.asarray(values.indices, dtype=np.int64), [len(made_cells.uniques)])
        row_keys = row_keys * len(values.dictionary) + made_codes[made_cells.codes[rows]]
        real_keys = real_keys * len(values.dictionary) + real_codes[real_cells.codes[real_rows]]
        in_real, in_made = np.isin(row_keys, real_keys), np.isin(real_keys, row_keys)
        rows, real_rows = rows[in_real], real_rows[in_made]
        _, ranks = np.unique(np.concatenate([row_keys[in_real], real_keys[in_made]]), return_inverse=True)
        row_keys, real_keys = np.split(ranks, [len(rows)])
    return len(rows) / len(made.values) if len(made.values) else 0.0


_PLAIN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$"


def _values(cells: pyarrow.Array) -> pyarrow.Array:
    """Return cells with numbers in a canonical form, without redundant signs and zeros."""
    cells = _ARROW.utf8_trim_whitespace(cells)
    digits = _ARROW.ascii_ltrim(_ARROW.ascii_ltrim(cells, "+-"), "0")
    stripped = _ARROW.ascii_rtrim(_ARROW.ascii_rtrim(digits, "0"), ".")
    digits = _ARROW.if_else(_ARROW.match_substring(digits, "."), stripped, digits)
    is_zero, no_text = _ARROW.equal(digits, ""), pyarrow.scalar("", TEXT)
    is_negative = _ARROW.and_not(_ARROW.starts_with(cells, "-"), is_zero)
    sign = _ARROW.if_else(is_negative, pyarrow.scalar("-", TEXT), no_text)
    zero = _ARROW.if_else(is_zero, pyarrow.scalar("0", TEXT), no_text)
    numbers = _ARROW.binary_join_element_wise(sign, digits, zero, no_text)
    canonical = _ARROW.if_else(_ARROW.match_substring_regex(cells, _PLAIN), numbers, cells)
    is_scientific = _ARROW.match_substring_regex(canonical, "^[+-]?[0-9.]+[eE]")
    if not _ARROW.any(is_scientific).as_py():
        return canonical
    return _ARROW.replace_with_mask(
        canonical, is_scientific, text_array([*map(_normalize_number, canonical.filter(is_scientific).to_pylist())])
    )


def _normalize_number(cell: str) -> str:
    """Return a number in scientific notation in canonical form; other text unchanged."""
    number = PLAIN.read(cell)
    return cell if number is None else _values(text_array([f"{number:f}"]))[0].as_py()


QUANTILES = (0.05, 0.5, 0.95)
FAR_OFF_FRACTION = 0.25
"""Maximum error of the mean, as a fraction of the real mean or the real standard deviation, whichever is smaller. Also
the maximum error of a quantile, as a fraction of the range of the real quantiles."""
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
        spread = real.quantiles[-1] - real.quantiles[0]
        difference = max(abs(a - b) for a, b in zip(made.quantiles, real.quantiles, strict=True))
        return abs(made.mean - real.mean) > bound or (spread > 0 and difference > FAR_OFF_FRACTION * spread)


def number_columns(made: RawTable, real: RawTable, schema: Schema) -> Sequence[NumberColumnPair]:
    """Return statistics of each numeric column in both tables; columns without numbers in one of them are skipped.

    Of a gap column, the numbers are its amounts.
    """
    return tuple(_number_column_pairs(modelled_cells(made, schema), modelled_cells(real, schema), schema))


def _number_column_pairs(made: RawTable, real: RawTable, schema: Schema) -> Iterator[NumberColumnPair]:
    for column in schema.modelled:
        if isinstance(column, Numerical):
            samples = [_numbers(column, table) for table in (made, real)]
            if all(map(len, samples)):
                yield NumberColumnPair(column.name, *map(_column_statistics, samples))


def _numbers(column: Numerical, table: RawTable) -> Float64[np.ndarray, " n"]:
    cells, form = table.factorize(column.name), column.form
    parsed = form.parse(cells.uniques)
    numbers, valid = parsed.units / 10**form.decimals, parsed.valid & ~cells.is_in(column.words_for_missing)
    for i in np.flatnonzero(valid & (~parsed.exact | (abs(parsed.units) >= MAX_EXACT_UNITS))):  # not exact in units
        numbers[i] = float(form.read(cells.uniques[i].as_py()) or 0)
    return numbers[cells.codes][valid[cells.codes]]


def _column_statistics(numbers: Float64[np.ndarray, " n"]) -> ColumnStatistics:
    quantiles = tuple(float(quantile) for quantile in np.quantile(numbers, QUANTILES))
    return ColumnStatistics(len(numbers), float(numbers.mean()), float(numbers.std()), quantiles)
