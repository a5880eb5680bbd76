"""Conditional probabilities of the values of one column of table rows, given the observed columns."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.sampling.autoregressive.row_decoding import weighted_completions
from feller.spaces.table_tokens import TableTokens

MAX_VALUES = 1024
"""Maximum number of values of a column whose probabilities are enumerated."""
NUM_COMPLETIONS = 64
"""Number of completions over which a conditional distribution is averaged if other columns are unobserved."""
NUM_ORDERS = 4
"""Number of orders of the observed columns over which a network that was trained on all orders is averaged."""
ROWS_PER_CALL = 2048
"""Maximum number of rows per network call."""


@torch.no_grad()
def column_probs(
    network: Any,
    x: Int64[Tensor, "n places"],
    observed: Bool[Tensor, "n places"],
    column: int,
    rng: Rng,
    *,
    any_order: bool,
    num_candidates: int = NUM_COMPLETIONS,
) -> Float64[Tensor, "n values"]:
    """Return p(value of `column` | observed columns) of each row, for all values of the column.

    The result is exact in two cases: the network can generate the column directly after the observed columns; or all
    other columns are observed, and the joint probabilities of all values are normalised. In other cases the result is
    the average over weighted completions of the row. A network that was trained on all orders is averaged over orders
    of the observed columns, an ensemble of one network (Uria et al. 2014, "A Deep and Tractable Density Estimator").

    Args:
        network: Network of rows, as of `RowTransformer`.
        x: Tokens of whole rows; unobserved tokens are ignored.
        observed: Mask of observed tokens. Rows in which `column` is observed get probability 1 for its value.
        column: Index of the column.
        rng: Random streams, for completions.
        any_order: True if the network was trained on all column orders.
        num_candidates: Number of completions, if needed.

    Raises:
        UsageError: If the column has more than `MAX_VALUES` values.
    """
    space: TableTokens = network.space
    if space.columns[column].num_values > MAX_VALUES:
        raise UsageError(
            f"a column with at most {MAX_VALUES:,} values",
            f"{space.columns[column].num_values:,}, since the model generates column {column} digit by digit",
            "Fit the table with bins for this column",
        )
    first = network.grammar.first_place
    is_observed = observed[:, first]
    is_open = ~is_observed[:, column]
    columns = torch.arange(len(space.columns), device=x.device)
    is_prefix = (is_observed == (columns < column)).all(1)
    is_complete = (is_observed | (columns == column)).all(1)
    is_direct = (is_prefix | any_order) & (space.tokens_per_column[column] == 1)
    probs = torch.zeros(len(x), space.columns[column].num_values, dtype=torch.float64, device=x.device)
    probs[~is_open, space.decode(x[~is_open])[:, column]] = 1.0
    masks = (is_open & is_direct, is_open & is_complete & ~is_direct, is_open & ~is_complete & ~is_direct)
    methods: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda rows: _next_column(network, x[rows], is_observed[rows], column, NUM_ORDERS if any_order else 1),
        lambda rows: enumerated_probs(space, x[rows], column, lambda tokens: _log_likelihood(network, tokens)),
        lambda rows: _averaged(network, x, observed, rows, column, rng, any_order, num_candidates),
    )
    for mask, method in zip(masks, methods, strict=True):
        for rows in mask.nonzero()[:, 0].split(ROWS_PER_CALL) if mask.any() else ():
            probs[rows] = method(rows)
    return probs


def enumerated_probs(
    space: TableTokens,
    x: Int64[Tensor, "n places"],
    column: int,
    log_likelihood: Callable[[Int64[Tensor, "m places"]], Tensor],
) -> Float64[Tensor, "n values"]:
    """Return p(value of `column` | all other columns) by normalising the joint probabilities of all values.

    Args:
        space: Tokens of rows.
        x: Tokens of whole rows, in which the tokens of `column` are ignored.
        column: Index of the column.
        log_likelihood: Log-likelihood of rows of tokens, [m].

    Raises:
        UsageError: If no value of the column is possible in a row.
    """
    num_values = space.columns[column].num_values
    begin = sum(space.tokens_per_column[:column])
    tokens = space.columns[column].encode(torch.arange(num_values, device=x.device))
    log_probs = []
    for rows in x.split(max(1, ROWS_PER_CALL // num_values)):
        candidates = rows[:, None].repeat(1, num_values, 1)
        candidates[:, :, begin : begin + tokens.shape[1]] = tokens
        log_probs.append(log_likelihood(candidates.flatten(0, 1)).double().reshape(len(rows), num_values))
    joint = torch.cat(log_probs) if log_probs else torch.zeros(0, num_values, dtype=torch.float64)
    is_impossible = (joint == -torch.inf).all(1)
    if is_impossible.any():
        raise UsageError("no valid row contains all given values", row=int(is_impossible.nonzero()[0]))
    return joint.softmax(1)


def _log_likelihood(network: Any, tokens: Int64[Tensor, "m places"]) -> Float64[Tensor, " m"]:
    """Return the log-likelihood of rows in table order."""
    logits = network(tokens, torch.zeros(len(tokens), device=tokens.device), {}).double()
    log_probs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    return log_probs.nan_to_num(nan=-torch.inf).sum(1)  # NaN: all tokens after an impossible one are impossible


def _next_column(
    network: Any, x: Int64[Tensor, "n places"], is_observed: Bool[Tensor, "n columns"], column: int, num_orders: int
) -> Float64[Tensor, "n values"]:
    """Return the probabilities of a column with one token that is generated directly after the observed columns.

    They are averaged over orders of the observed columns, the same for all rows; the first is that of the table.
    """
    position = network.grammar.first_place[column]
    allowed_tokens = x.clone()
    allowed_tokens[:, position] = 0
    if not (is_observed.sum(1) > 1).any():
        num_orders = 1
    num_values = network.space.columns[column].num_values
    probs = [
        _probs_in_order(network, allowed_tokens, _target_after(ranks, is_observed, column), position, num_values)
        for ranks in _column_ranks(is_observed.shape[1], num_orders).to(x.device)
    ]
    return torch.stack(probs).mean(0)


def _column_ranks(num_columns: int, num_orders: int) -> Int64[Tensor, "orders columns"]:
    """Return the rank of each column in fixed random orders, the first of which is the order of the table."""
    ranks = Rng(0).stream("orders").uniform((num_orders, num_columns), torch.float64).argsort(1)
    ranks[0] = torch.arange(num_columns)
    return ranks


def _target_after(
    ranks: Int64[Tensor, " columns"], is_observed: Bool[Tensor, "n columns"], column: int
) -> Int64[Tensor, "n columns"]:
    """Return the order of the columns of each row: the observed ones by rank, the target, and all others."""
    key = torch.where(is_observed, ranks, len(ranks) + 1 + ranks)
    key[:, column] = len(ranks)
    return key.argsort(1)


def _probs_in_order(
    network: Any,
    tokens: Int64[Tensor, "n places"],
    order: Int64[Tensor, "n columns"],
    position: int,
    num_values: int,
) -> Float64[Tensor, "n values"]:
    """Return the probabilities of the first `num_values` tokens at a position, if columns come in the given order."""
    is_table_order = (order == torch.arange(order.shape[1], device=tokens.device)).all()
    cond = {} if is_table_order else {"order": order}
    logits = network(tokens, torch.zeros(len(tokens), device=tokens.device), cond)[:, position]
    return logits[:, :num_values].double().softmax(1)


def _averaged(
    network: Any,
    x: Int64[Tensor, "n places"],
    observed: Bool[Tensor, "n places"],
    rows: Int64[Tensor, " m"],
    column: int,
    rng: Rng,
    any_order: bool,
    num_candidates: int,
) -> Float64[Tensor, "m values"]:
    """Return the weighted frequencies of the values of a column in completions of some rows."""
    completions, log_weights = weighted_completions(
        network, x[rows], observed[rows], rng, rows, num_candidates, any_order=any_order
    )
    codes = network.space.decode(completions)[..., column]
    probs = torch.zeros(len(rows), network.space.columns[column].num_values, dtype=torch.float64, device=x.device)
    return probs.scatter_add_(1, codes, log_weights.softmax(1))
