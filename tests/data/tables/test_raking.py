"""Rows are chosen by weights that give each column its shares, and nothing else about them changes."""

import torch

from feller.core.rng import Draws
from feller.data.tables.raking import raked
from tests.oracle import F64

N = 20_000


def pairs(chances: list[list[float]], n: int) -> torch.Tensor:
    law = torch.tensor(chances, dtype=F64)
    drawn = torch.multinomial(law.flatten(), n, replacement=True, generator=torch.Generator().manual_seed(0))
    return torch.stack([drawn // law.shape[1], drawn % law.shape[1]], 1)


def table(codes: torch.Tensor) -> torch.Tensor:
    return torch.bincount(codes[:, 0] * 3 + codes[:, 1], minlength=6).double().reshape(2, 3) / len(codes)


def test_columns_have_their_shares_and_keep_their_odds() -> None:
    codes = pairs([[0.3, 0.1, 0.1], [0.1, 0.1, 0.3]], 3 * N)
    found = table(codes[raked(codes, ((0.7, 0.3), (0.2, 0.3, 0.5)), N, Draws(0))])
    assert (found.sum(1) - torch.tensor([0.7, 0.3])).abs().max() < 1e-4
    assert (found.sum(0) - torch.tensor([0.2, 0.3, 0.5])).abs().max() < 1e-4
    odds = found[0, 0] * found[1, 2] / (found[0, 2] * found[1, 0])
    assert abs(odds.item() - 9) < 0.7


def test_a_column_without_shares_is_left_alone() -> None:
    codes = pairs([[0.2, 0.2, 0.1], [0.2, 0.2, 0.1]], 3 * N)
    found = table(codes[raked(codes, ((), (0.5, 0.25, 0.25)), N, Draws(0))])
    assert (found.sum(0) - torch.tensor([0.5, 0.25, 0.25])).abs().max() < 1e-4
    assert abs(found[0].sum().item() - 0.5) < 0.01


def test_rows_are_taken_once_where_there_are_enough() -> None:
    codes = pairs([[0.2, 0.2, 0.1], [0.2, 0.2, 0.1]], 3 * N)
    which = raked(codes, ((0.6, 0.4), ()), N, Draws(0))
    assert len(which) == len(which.unique()) == N
    assert torch.equal(which, raked(codes, ((0.6, 0.4), ()), N, Draws(0)))
    assert not torch.equal(which, raked(codes, ((0.6, 0.4), ()), N, Draws(1)))


def test_a_code_that_never_comes_stays_away() -> None:
    codes = pairs([[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]], N)
    found = codes[raked(codes, ((0.5, 0.5), (0.5, 0.5, 0.0)), N, Draws(0))]
    assert (found[:, 1] == 0).all()
