"""Which rows of a private fit are kept back: each by a coin of its own."""

import hashlib
from collections import Counter

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from feller.app.workflows.private.keyed import key_for
from feller.core.errors import UsageError
from feller.core.pytree import leaves, length
from feller.data.modality import Dataset
from feller.data.split import FEWEST

PURPOSE = "kept back"


def kept_back(data: Dataset, share: float, salt: str) -> Bool[Tensor, " n"]:
    """Tell which rows are kept back: a row more or less moves no other.

    The coin of a row is a keyed hash of what it holds, and of how many before it hold the same. So the rows of two
    tables that differ by one row fall on the same sides but for that one, whatever their order. Below ten rows none is
    kept back.

    Args:
        data: Rows, whose number is public.
        share: Chance of each to be kept back.
        salt: Of this run.

    Raises:
        UsageError: If the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise UsageError(f"expected a share from 0 to below 1 to set aside, got {share:g}")
    n = len(data)
    if n < FEWEST or share == 0:
        return torch.zeros(n, dtype=torch.bool)
    key, seen, chances = key_for(PURPOSE, salt), Counter[bytes](), []
    for row in _contents(data):
        held = hashlib.blake2b(row, key=key, digest_size=16).digest()
        coin = hashlib.blake2b(held + seen[held].to_bytes(8), key=key, digest_size=8).digest()
        seen[held] += 1
        chances.append(int.from_bytes(coin) / 2**64)
    return torch.tensor(chances, dtype=torch.float64) < share


def _contents(data: Dataset) -> list[bytes]:
    """Return the bytes of each row, with its conditions."""
    wanted = () if data.target is None else (data.wanted(data.target),)
    parts = [*leaves(data.values), *(data.given[name] for name in sorted(data.given)), *wanted]
    flat = [np.ascontiguousarray(part.numpy()).reshape(length(part), -1).view(np.uint8) for part in parts]
    return [row.tobytes() for row in np.concatenate(flat, 1)]
