"""Set shares of the values of a table column (rebalancing), and a target that is independent of a sensitive column."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.rng import Rng, categorical
from feller.data.tables.given_cells import CellConditions, parse_given_code
from feller.data.tables.modality import Table
from feller.models.families.model_family import PartialObservation
from feller.models.model import Model

MARGINAL_ROWS = 4096
"""Number of rows from which the distribution of a column is estimated if the model has none."""
PARITY_ROWS = 2000
"""Number of rows without the option that are sampled for comparison."""
TOLERANCE = 1e-6
"""Tolerance of the sum of shares."""


@dataclass(frozen=True, eq=False)
class ColumnShares:
    """Distribution of the codes of one column, which replaces that of the model."""

    column: int
    """Index among the modelled columns."""
    probs: Float64[Tensor, " codes"]


def parse_shares(model: Model, table: Table, shares: Mapping[str, object], rng: Rng) -> tuple[ColumnShares, ...]:
    """Parse the shares of the values of columns.

    Values that are not named get the remaining share, in the proportions of the model.

    Args:
        model: Model of the table.
        table: Its modality.
        shares: For each column, a dict from values to shares, or texts VALUE:SHARE.
        rng: Random streams, to estimate the distribution of a column.

    Raises:
        UsageError: If a column, value or share is wrong, or the shares exceed 1.
    """
    return tuple(_column_shares(model, table, name, value, rng) for name, value in shares.items())


def _column_shares(model: Model, table: Table, name: str, value: object, rng: Rng) -> ColumnShares:
    probs: dict[int, float] = {}
    column = None
    for cell, share in _entries(name, value).items():
        check_number(name, share, ge=0, le=1)
        column, code = parse_given_code(table.schema, name, cell)
        if code in probs:
            raise UsageError(
                argument=name, expected="values with different codes", found=f"{cell}, in the bin of another value"
            )
        probs[code] = share
    if column is None:
        raise UsageError(argument=name, expected="shares of values, as VALUE:SHARE", found="none")
    rest = 1 - sum(probs.values())
    marginal = column_marginal(model, table, column, rng)
    marginal[[*probs]] = 0.0
    if rest < -TOLERANCE or (rest > TOLERANCE and not marginal.sum() > 0):
        raise UsageError(
            argument=name,
            expected="shares with a sum of 1, or less if other values are possible",
            found=f"a sum of {1 - rest:g}",
            remedy="Change the shares",
        )
    result = marginal * (max(rest, 0.0) / marginal.sum()) if rest > TOLERANCE else torch.zeros_like(marginal)
    for code, share in probs.items():
        result[code] = share
    return ColumnShares(column, result / result.sum())


def _entries(name: str, value: object) -> dict[str, float]:
    """Return the fraction of each value."""
    if isinstance(value, Mapping):
        return {str(cell): float(share) for cell, share in value.items()}
    entries = {}
    for text in [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []:
        cell, colon, share = str(text).rpartition(":")
        try:
            entries[cell] = float(share)
        except ValueError:
            colon = ""
        if not colon or not cell:
            raise UsageError(argument=name, expected="VALUE:SHARE, such as TRUE:0.5", found=repr(str(text)))
    return entries


def column_marginal(model: Model, table: Table, column: int, rng: Rng) -> Float64[Tensor, " codes"]:
    """Return the distribution of the codes of a column: the known one, or that of sampled rows."""
    if table.marginals and len(table.marginals[column]) == table.counts[column]:
        marginal = torch.tensor(table.marginals[column], dtype=torch.float64).clamp(min=0)
        return marginal / marginal.sum()
    values = model.sample_dataset(MARGINAL_ROWS, rng=rng.fold_in("marginal")).values
    return values[:, column].bincount(minlength=table.counts[column]).double() / len(values)


def fair_shares(
    model: Model, table: Table, sensitive: str, shares: tuple[ColumnShares, ...], rng: Rng
) -> tuple[ColumnShares, ...]:
    """Return shares with which the target is independent of a sensitive column; both keep their distribution.

    The two columns are sampled independently, and the other columns from the conditional distribution given both. This
    is the reweighing of Kamiran and Calders 2012, "Data preprocessing techniques for classification without
    discrimination", in the limit of many rows.

    Raises:
        UsageError: If the sensitive column is unknown, or is the target.
    """
    names = [column.name for column in table.schema.modelled]
    if sensitive not in names:
        raise UsageError.unknown_name("fair", sensitive, names)
    target = table.schema.target_index
    if names.index(sensitive) == target:
        raise UsageError(
            argument="fair",
            expected="a column other than the target",
            found=f"{sensitive}, the target",
            remedy="Fit with --target COLUMN for another target",
        )
    taken = {share.column for share in shares}
    free = [column for column in (names.index(sensitive), target) if column not in taken]
    return (*shares, *(ColumnShares(column, column_marginal(model, table, column, rng)) for column in free))


def shares_observation(
    table: Table, shares: tuple[ColumnShares, ...], given: CellConditions, n: int, rng: Rng
) -> PartialObservation:
    """Sample the columns with set shares, and return them, with the given cells, as observed parts of n rows.

    Raises:
        UsageError: If a column has both a share and a condition.
    """
    cells = table.given_cells(given)
    codes, observed = cells.codes.repeat(n, 1), cells.observed.repeat(n, 1)
    for share in shares:
        if cells.observed[share.column] or share.column in cells.choices:
            raise UsageError(
                argument=table.schema.modelled[share.column].name,
                expected="either a condition or shares",
                found="both",
                remedy="Leave one of the two out",
            )
        uniform = rng.stream("shares", share.column).uniform((n,), torch.float64)
        codes[:, share.column] = categorical(share.probs, uniform)
        observed[:, share.column] = True
    tokens, mask = table.observed_tokens(codes, observed)
    return PartialObservation(
        tokens, mask, code_weights={j: choice.acceptance_probs for j, choice in cells.choices.items()}
    )


def parity_difference(codes: Int64[Tensor, "n k"], sensitive: int, target: int) -> float:
    """Return the largest difference of the fraction of a target value between groups of a sensitive column.

    Groups with fewer than 30 rows are left out.
    """
    groups, index = np.unique(codes[:, sensitive].numpy(), return_inverse=True)
    targets = np.eye(int(codes[:, target].max()) + 1)[codes[:, target].numpy()]
    rates = np.stack([targets[index == i].mean(0) for i in range(len(groups)) if (index == i).sum() >= 30] or [[0.0]])
    return float((rates.max(0) - rates.min(0)).max())
