"""Rows are exchanged until pairs of columns are as near to their weights as rows allow."""

import itertools

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.rng import Draws
from feller.data.tables.raking import exchanged, in_steps
from tests.oracle import F64

N = 2000


def rows(n: int) -> Int64[Tensor, "n 4"]:
    """Draw columns of 6, 5, 4 and 3 codes, of which the second leans on the first."""
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randint(count, (n,), generator=generator) for count in (6, 5, 4, 3)]
    columns[1] = torch.where(torch.rand(n, generator=generator) < 0.5, columns[0].clamp(max=4), columns[1])
    return torch.stack(columns, 1)


def tilted(codes: Int64[Tensor, "m 4"]) -> Float64[Tensor, " m"]:
    """Weigh rows by their last two columns."""
    weights = 1 + 0.5 * (codes[:, 2] + codes[:, 3] > 2).double()
    return weights / weights.sum()


def distance(codes: Tensor, weights: Tensor, which: Tensor) -> float:
    """Return the mean total variation of pairs, of what is taken and what is wanted."""
    found = []
    for a, b in itertools.combinations(range(4), 2):
        cell = codes[:, a] * 6 + codes[:, b]
        wanted = torch.bincount(cell, weights, minlength=36)
        found.append((torch.bincount(cell[which], minlength=36) / len(which) - wanted).abs().sum() / 2)
    return torch.stack(found).mean().item()


def test_pairs_come_several_times_nearer_than_by_equal_steps() -> None:
    codes = rows(3 * N)
    weights = tilted(codes)
    before = distance(codes, weights, in_steps(codes, weights, N, Draws(0)))
    after = distance(codes, weights, exchanged(codes, weights, N, Draws(0)))
    assert after < before / 3


def test_rows_with_little_weight_are_taken_once() -> None:
    codes = rows(3 * N)
    which = exchanged(codes, tilted(codes), N, Draws(0))
    assert len(which) == len(which.unique()) == N
    assert torch.equal(which, exchanged(codes, tilted(codes), N, Draws(0)))
    assert not torch.equal(which, exchanged(codes, tilted(codes), N, Draws(1)))


def test_rows_without_weight_stay_away() -> None:
    codes = rows(3 * N)
    weights = torch.where(codes[:, 0] == 2, 0.0, 1.0).double()
    which = exchanged(codes, weights / weights.sum(), N, Draws(0))
    assert (codes[which, 0] != 2).all()


def test_too_few_rows_come_again_as_often_as_their_weights_say() -> None:
    codes = rows(10)
    weights = torch.arange(1, 11, dtype=F64) / 55
    times = torch.bincount(exchanged(codes, weights, 550, Draws(0)), minlength=10)
    assert times.tolist() == list(range(10, 101, 10))


def test_one_column_is_taken_in_equal_steps() -> None:
    codes = rows(100)[:, :1]
    weights = torch.full((100,), 0.01, dtype=F64)
    assert torch.equal(exchanged(codes, weights, 20, Draws(3)), in_steps(codes, weights, 20, Draws(3)))


def test_columns_of_too_many_values_are_left_as_they_are() -> None:
    codes = torch.stack([torch.arange(900) * 71 % 60_000, torch.arange(900) * 53 % 60_000], 1)
    codes[0] = 59_999
    weights = torch.full((900,), 1 / 900, dtype=F64)
    assert len(exchanged(codes, weights, 300, Draws(0)).unique()) == 300
