"""How likely a network finds symbols of rows, given those before them."""

from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.data.documents.vocabulary import Symbols

SCORING_BATCH = 32
"""Rows that are read together, unless one asks otherwise."""


@torch.no_grad()
def log_likelihood(
    network: Any,
    rows: Int64[Tensor, "n l"],
    counted: Bool[Tensor, "n l"],
    symbols: Symbols,
    *,
    at_once: int = SCORING_BATCH,
) -> Float64[Tensor, " n"]:
    """Return log p of the counted symbols of each row, given all that stands before each, in nats; sums in float64.

    exp(-sum / number) is their perplexity; `countable` tells how many there are. What is never predicted is not
    counted, whatever is asked: the first symbol of a row, `<mask>`, `<infill>` and padding.

    Args:
        network: (x_t, t, given) -> at each place the logits of the next symbol, as `PlainTransformer`.
        rows: Padded on their right.
        counted: Which symbols count.
        symbols: Of the rows.
        at_once: Rows that are read together, of similar lengths.
    """
    counted = counted & countable(rows, symbols)
    total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    within = torch.where(counted, torch.arange(1, rows.shape[1] + 1, device=rows.device), 0)
    length = F.pad(within, (1, 0)).amax(1)
    for which in length.argsort().split(at_once) if len(rows) else ():
        some = rows[which, : int(length[which].max())]
        marks = counted[which, 1 : some.shape[1]]
        if marks.any():
            logits = network(some, torch.zeros(len(some), device=rows.device), {})[:, :-1]
            entries = F.cross_entropy(logits[marks].double(), some[:, 1:][marks], reduction="none")
            total.index_add_(0, which[marks.nonzero()[:, 0]], -entries)
    return total


def countable(rows: Int64[Tensor, "n l"], symbols: Symbols) -> Bool[Tensor, "n l"]:
    """Mark what is predicted: all but the first of each row, sentinels and padding."""
    marks = (rows != symbols.mask) & (rows != symbols.infill) & (rows < symbols.count)
    return marks & (torch.arange(rows.shape[1], device=rows.device) > 0)


def hidden(rows: Int64[Tensor, "n l"], symbols: Symbols) -> Bool[Tensor, "n l"]:
    """Mark the content of holes: what stands behind an `<infill>`, up to the `<eos>` of its document."""
    at = torch.arange(rows.shape[1], device=rows.device)
    last_infill = torch.where(rows == symbols.infill, at, -1).cummax(1).values
    last_eos = torch.where(rows == symbols.eos, at, 0).cummax(1).values
    return (last_infill > last_eos) & countable(rows, symbols)
