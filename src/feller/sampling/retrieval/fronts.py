"""What stands in front of documents: others from a memory, as a network sees them."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Draws
from feller.sampling.retrieval.retriever import NONE, ByLikeness, Library, Retrieval

ASKING = ByLikeness(max_score=1.0, dropout=0.0)
"""How documents are chosen for what a person asks: also what says the very same, and with all that is asked."""


def fronts(
    library: Library,
    rows: Int64[Tensor, "n l"],
    count: int,
    rooms: Sequence[int],
    draws: Draws,
    how: Retrieval = ASKING,
) -> list[Int64[Tensor, " _"]]:
    """Return the symbols of the documents that stand in front of each, the most like last; fewer where room is short.

    Args:
        library: Where to look.
        rows: Documents, or beginnings of some.
        count: How many stand in front, at most.
        rooms: Symbols that there is room for in front of each.
        draws: Source of all that is random.
        how: Documents are chosen.
    """
    which = how(library, rows, torch.full((len(rows),), count), draws).which
    return [_joined(library, some, room) for some, room in zip(which.tolist(), rooms, strict=True)]


def _joined(library: Library, which: Sequence[int], room: int) -> Int64[Tensor, " _"]:
    """Put documents one after the other, leaving out those that are less like and find no room."""
    memory, parts = library.memory, []
    for number in which:
        row = memory.rows[number] if number != NONE else memory.rows[0, :0]
        document = row[row < memory.symbols.count]  # neither padding nor marks
        room -= len(document)
        if room < 0:
            break
        parts.insert(0, document)
    return torch.cat([memory.rows[0, :0], *parts])
