"""Conditional probabilities of a column: against all rows of a small table, enumerated."""

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.sampling.autoregressive import row_conditionals
from feller.sampling.autoregressive.row_conditionals import column_probs
from tests.networks.test_row_network import CODES, ROWS, VALID, chances, network

N = 60


def observations(seed: int, missing: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Codes of valid rows, and the mask of all columns but the missing ones."""
    codes = CODES[VALID][torch.randperm(int(VALID.sum()), generator=torch.Generator().manual_seed(seed))[:N]]
    mask = torch.ones_like(codes, dtype=torch.bool)
    mask[:, list(missing)] = False
    return codes, mask


def truth(law: Tensor, codes: Tensor, mask: Tensor, column: int) -> Tensor:
    """Sum the probabilities of all rows that agree with the observed codes, by the value of the column."""
    agree = ((CODES[None] == codes[:, None]) | ~mask[:, None]).all(-1) * law.detach().double()
    values = torch.zeros(len(codes), ROWS.columns[column].num_values, dtype=torch.float64)
    values.scatter_add_(1, CODES[:, column].expand(len(codes), -1), agree)
    return values / values.sum(1, keepdim=True)


def tokens(codes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return ROWS.encode(codes), mask.repeat_interleave(torch.tensor(ROWS.tokens_per_column), 1)


@pytest.mark.parametrize("column", range(4))
def test_given_all_other_columns_the_joint_is_normalised(column: int) -> None:
    made = network()
    codes, mask = observations(column, (column,))
    found = column_probs(made, *tokens(codes, mask), column, Rng(0), any_order=False)
    wanted = truth(chances(made, ROWS.encode(CODES), None), codes, mask, column)
    assert (found - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("missing", [(0,), (0, 2), (2, 3), (0, 1, 3)])
def test_in_any_order_the_column_comes_after_the_observed_ones(missing: tuple[int, ...]) -> None:
    """The result is the mean over orders of the observed columns; the truth sums the rows of an enumerated table."""
    made, column = network(), missing[0]
    codes, mask = observations(1, missing)
    orders = [[*order, column, *missing[1:]] for order in permuted(missing)]
    wanted = torch.stack(
        [truth(chances(made, ROWS.encode(CODES), torch.tensor(order)), codes, mask, column) for order in orders]
    )
    found = column_probs(made, *tokens(codes, mask), column, Rng(0), any_order=True)
    assert (found - wanted.mean(0)).abs().max() < 1e-6
    if len({*map(tuple, orders)}) > 1:
        assert (wanted - wanted[0]).abs().max() > 1e-3  # the network differs between orders


def permuted(missing: tuple[int, ...]) -> list[list[int]]:
    """The observed columns in each of the orders that are averaged."""
    observed = [j for j in range(4) if j not in missing]
    ranks = row_conditionals._column_ranks(4, row_conditionals.NUM_ORDERS).tolist()
    orders = [sorted(observed, key=lambda j, row=row: row[j]) for row in ranks]
    return orders if len(observed) > 1 else orders[:1]


def test_the_first_order_is_that_of_the_table_and_orders_differ() -> None:
    ranks = row_conditionals._column_ranks(9, 8)
    assert ranks[0].tolist() == list(range(9))
    assert torch.equal(ranks.sort(1).values, torch.arange(9).expand(8, -1))
    assert len({tuple(row) for row in ranks.tolist()}) == 8


def test_completions_average_to_the_conditional() -> None:
    """1,000 weighted completions; errors of 0.08 are 5 standard deviations with 1,000 equal weights."""
    made = network()
    codes, mask = observations(2, (0, 1))
    found = column_probs(made, *tokens(codes, mask), 0, Rng(0), any_order=False, num_candidates=1000)
    wanted = truth(chances(made, ROWS.encode(CODES), None), codes, mask, 0)
    assert (found.sum(1) - 1).abs().max() < 1e-12
    assert (found - wanted).abs().max() < 0.08


def test_probabilities_of_a_row_depend_on_no_other_row() -> None:
    made = network()
    codes, mask = observations(3, (0, 1))
    whole = column_probs(made, *tokens(codes, mask), 0, Rng(0), any_order=False)
    part = column_probs(made, *tokens(codes[:7], mask[:7]), 0, Rng(0), any_order=False)
    assert (whole[:7] - part).abs().max() < 1e-6


def test_columns_of_many_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_conditionals, "MAX_VALUES", 16)
    codes, mask = observations(4, (1,))
    with pytest.raises(UsageError):
        column_probs(network(), *tokens(codes, mask), 1, Rng(0), any_order=False)
