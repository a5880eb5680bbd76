"""Prediction of one table column from the others: probabilities, most likely value, mean and quantiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.app.workflows.imputation import check_table_model, raw_of
from feller.core.errors import UsageError, check_number, error_context
from feller.core.rng import Rng
from feller.data.tables.best_cells import Guess, best_guess, mean_units, mode, present_probs, quantile
from feller.data.tables.column import ModelledColumn
from feller.data.tables.dataframes import to_frame
from feller.data.tables.encoding import decode
from feller.data.tables.modality import Table
from feller.data.tables.numerical_column import Numerical
from feller.models.model import Model


@dataclass(frozen=True, eq=False)
class ColumnPrediction:
    """Conditional distribution of a column given the other columns of each row."""

    table: Table
    column: ModelledColumn
    probs: Float64[np.ndarray, "n codes"]
    index: pd.Index
    """Index of the rows."""

    def classes(self) -> pd.Series:
        """Return the values of the column, without the missing cell, with the dtype of the fitted table.

        Raises:
            UsageError: If a code stands for several values, as the bins of numbers do.
        """
        return column_classes(self.table, self.column)

    def proba(self) -> pd.DataFrame:
        """Return the probability of each value given that the cell is not missing."""
        classes = self.classes()
        return pd.DataFrame(
            present_probs(self.probs, self.column), self.index, pd.Index(classes, name=self.column.name)
        )

    def predict(self) -> pd.Series:
        """Return the mean of numbers, the median of times, and the most likely value of other columns."""
        if isinstance(self.column, Numerical):
            means = mean_units(self.probs, self.column) / 10.0**self.column.form.decimals
            return pd.Series(means, self.index, name=self.column.name)
        return self._cells(best_guess(self.probs, self.column))

    def most_likely(self) -> pd.Series:
        """Return the most likely value."""
        return self._cells(mode(self.probs, self.column))

    def quantiles(self, levels: Sequence[float]) -> pd.DataFrame:
        """Return quantiles, one column per level.

        Raises:
            UsageError: If the column has no order, or a level is not in [0, 1].
        """
        if not self.column.is_ordered:
            raise UsageError(
                argument="target",
                expected="a column of numbers or times",
                found=f"{self.column.name}, which has no order",
                remedy="Use predict_proba",
            )
        for level in levels:
            check_number("quantiles", level, ge=0, le=1)
        cells = {level: self._cells(quantile(self.probs, self.column, level)) for level in levels}
        return pd.DataFrame(cells, self.index)

    def _cells(self, guess: Guess) -> pd.Series:
        return cells_of(self.table, self.column, guess).set_axis(self.index)


def predict_column(model: Model, frame: pd.DataFrame, target: str | None, *, lenient: bool = False) -> ColumnPrediction:
    """Compute the conditional distribution of a column given the other columns of each row.

    A blank cell of a column with missing cells is a missing cell; in other columns, and for absent columns, the cell is
    unknown and averaged over.

    Args:
        model: Model of a table.
        frame: Rows; the target column is ignored.
        target: Name of a modelled column (default: the target of the schema, else the last modelled column).
        lenient: True to replace invalid cells by similar valid cells.

    Raises:
        InputError: If the rows do not match the fitted table.
        UsageError: If the target is no modelled column, or the model has no conditional probabilities.
    """
    check_table_model(model)
    table = cast(Table, model.spec.modality)
    column = target_index(table, target)
    name = table.schema.modelled[column].name
    raw = raw_of(frame.drop(columns=name, errors="ignore") if isinstance(frame, pd.DataFrame) else frame, table)
    with error_context("the data frame"):
        codes, observed = (table.lenient if lenient else table).known(raw)
    for j, other in enumerate(table.schema.modelled):
        if other.missing is not None and other.name in raw.columns and j != column:
            codes[~observed[:, j], j] = other.num_values
            observed[:, j] = True
    probs = model.column_probs(codes, observed, column, rng=Rng(0).fold_in("predict"))
    return ColumnPrediction(table, table.schema.modelled[column], probs.numpy(), frame.index)


def target_index(table: Table, target: str | None) -> int:
    """Return the index of a target among the modelled columns; by default that of the schema's target."""
    if target is None:
        return table.schema.target_index
    names = [column.name for column in table.schema.modelled]
    if target not in names:
        raise UsageError.unknown_name("target", target, names)
    return names.index(target)


def column_classes(table: Table, column: ModelledColumn) -> pd.Series:
    """Return the values of a column, without the missing cell, with the dtype of the fitted table.

    Raises:
        UsageError: If a code stands for several values, as the bins of numbers do.
    """
    has_bins = column.is_ordered and not (isinstance(column, Numerical) and column.digits)
    bins = getattr(column, "levels", None)
    if has_bins and bins is not None and any(np.diff(bins.span(code))[0] for code in range(bins.count)):
        raise UsageError(
            argument="target",
            expected="a column in which each code is one value",
            found=f"{column.name}, whose bins contain several values",
            remedy="Use predict for the mean, or predict_quantiles",
        )
    codes = np.arange(column.num_values)
    return cells_of(table, column, (codes, np.full(len(codes), 0.5)))


def cells_of(table: Table, column: ModelledColumn, guess: Guess) -> pd.Series:
    """Return cells of one column, decoded with the dtype of the fitted table."""
    codes, uniforms = guess
    j = [modelled.name for modelled in table.schema.modelled].index(column.name)
    rows: Int64[Tensor, "n k"] = torch.zeros(len(codes), len(table.counts), dtype=torch.long)
    positions = torch.full(rows.shape, 0.5, dtype=torch.float64)
    rows[:, j], positions[:, j] = torch.from_numpy(codes), torch.from_numpy(uniforms)
    return to_frame(decode(rows, positions, table.schema), table.schema)[column.name]
