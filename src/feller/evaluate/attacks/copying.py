"""Whether samples are copies of what was learned from, or lie too near it; of data whose parts have an order."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.data.modality import Dataset
from feller.draws import Draws
from feller.evaluate.attacks.scores import Told, told
from feller.tree import leaves

MOST = 2_000
"""Examples of each kind that are set beside each other."""
AT_ONCE = 2**22
"""Distances of single numbers that are held at once."""


@dataclass(frozen=True)
class Copied:
    """How samples stand to what was learned from."""

    copies: float
    """Share of samples that stand in the training data."""
    copies_held_out: float | None
    """The same share of examples that were not learned from."""
    nearest_ratio: float | None
    """Distance to the nearest training example, medians of samples over those of held-out examples."""
    nearness: Told | None
    """How well nearness to samples tells members from others."""


def apart(a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
    """Return squared distances of numbers plus the number of symbols that differ, of all pairs."""
    total = torch.zeros(len(a), len(b), dtype=torch.float64)
    both = (data.modality.encode(data.values) for data in (a, b))
    for x, y in zip(*map(leaves, both), strict=True):
        first, second = (leaf.flatten(1).cpu() for leaf in (x, y))
        if x.is_floating_point():
            total += torch.cdist(first.double(), second.double()).square()
        else:
            rows = max(1, AT_ONCE // max(1, second.numel()))
            parts = [(part[:, None] != second).sum(2).double() for part in first.split(rows)]
            total += torch.cat(parts)
    return total


def share_of_copies(samples: Dataset, train: Dataset) -> float:
    """Return the share of samples all of whose numbers and symbols are those of one training example."""
    known = set(_whole(train))
    return sum(one in known for one in _whole(samples)) / max(1, len(samples))


def _whole(data: Dataset) -> list[bytes]:
    """Return each example as one piece."""
    parts = [leaf.flatten(1).cpu().contiguous().numpy() for leaf in leaves(data.modality.encode(data.values))]
    return [b"".join(part[i].tobytes() for part in parts) for i in range(len(data))]


def copied(samples: Dataset, train: Dataset, held_out: Dataset, draws: Draws) -> Copied:
    """Compare samples with the training data, and with as many held-out examples; for distances the sets in part.

    Args:
        samples: What the model drew.
        train: What it learned from.
        held_out: What it did not; may be empty.
        draws: Chooses the parts.
    """
    size = min(MOST, len(train), len(held_out) or len(train))
    made, seen = _some(samples, MOST, draws.named("samples")), _some(train, size, draws.named("seen"))
    copies = share_of_copies(samples, train)
    if not len(held_out):
        return Copied(copies, None, None, None)
    unseen = _some(held_out, size, draws.named("unseen"))
    near, others = apart(made, seen), apart(unseen, seen)
    usual = others.amin(1).median()
    return Copied(
        copies,
        share_of_copies(held_out, train),
        (near.amin(1).median() / usual).sqrt().item() if usual else None,
        told(-near.amin(0), -apart(unseen, made).amin(1)) if size >= 4 else None,
    )


def _some(data: Dataset, most: int, draws: Draws) -> Dataset:
    if len(data) <= most:
        return data
    return data.subset(torch.randperm(len(data), generator=draws.at("order").shared())[:most])
