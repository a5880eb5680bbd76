"""Small tables of codes whose law is known."""

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.rng import Rng

COUNTS = (2, 5, 3, 2)
ORDERED = (False, True, False, False)


def people(seed: int, n: int) -> Int64[Tensor, "n 4"]:
    """Draw rows: a coin, a number that depends on it, an independent category, an answer that follows the number."""
    draws = Rng(seed)
    coin = draws.stream("coin").randint(2, (n,))
    number = (draws.stream("number").randint(4, (n,)) + coin).clamp(max=4)
    kind = draws.stream("kind").randint(3, (n,))
    flip = draws.stream("flip").uniform((n,)) < 0.1
    return torch.stack([coin, number, kind, ((number >= 3) ^ flip).long()], 1)


def any_codes(seed: int, n: int, counts: tuple[int, ...]) -> Int64[Tensor, "n k"]:
    return torch.stack([Rng(seed).stream("codes", j).randint(count, (n,)) for j, count in enumerate(counts)], 1)
