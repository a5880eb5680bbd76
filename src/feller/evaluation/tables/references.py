"""Tables that show on which scale the numbers of a synthetic table lie; a table is codes, one row for each example."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Draws


def drawn_again(codes: Int64[Tensor, "n k"], size: int, draws: Draws) -> Int64[Tensor, "size k"]:
    """Draw rows with replacement: as near to the table as rows that know its law can come, and all of them copies."""
    return codes[draws.at("drawn again").integers(len(codes), (size,))]


def unrelated(codes: Int64[Tensor, "n k"], draws: Draws) -> Int64[Tensor, "n k"]:
    """Shuffle each column on its own: every column keeps its shares, and no column tells of another."""
    columns = [codes[_order(len(codes), draws.named("column", j)), j] for j in range(codes.shape[1])]
    return torch.stack(columns, 1)


def code_length_of_unrelated(
    learned: Int64[Tensor, "n k"],
    unseen: Int64[Tensor, "m k"],
    levels_of: Callable[[Tensor], Tensor],
    rooms: Sequence[int],
) -> float:
    """Return what unseen rows take in nats if columns tell nothing of each other: by shares of levels, evenly within.

    Args:
        learned: Rows whose shares are counted, one more in each level.
        unseen: Rows that are told.
        levels_of: Codes -> levels; the codes of one level are alike.
        rooms: Codes of each column.
    """
    every = [torch.arange(max(rooms)).clamp(max=room - 1) for room in rooms]
    levels, known, asked = (levels_of(codes) for codes in (torch.stack(every, 1), learned, unseen))
    total = 0.0
    for j, room in enumerate(rooms):
        width = levels[:room, j].bincount().double()
        shares = known[:, j].bincount(minlength=len(width)).double() + 1
        total -= (shares / shares.sum() / width).log()[asked[:, j]].mean().item()
    return total


def some(codes: Int64[Tensor, "n k"], most: int, draws: Draws) -> Int64[Tensor, "m k"]:
    """Return so many rows at most, each once, chosen at random."""
    return codes if len(codes) <= most else codes[_order(len(codes), draws)[:most]]


def _order(n: int, draws: Draws) -> Int64[Tensor, " n"]:
    return torch.randperm(n, generator=draws.at("order").shared())
