"""What is hidden from a network that learns to fill in: all of a row, or one long piece of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import RandomStream


@dataclass(frozen=True)
class SpanMask:
    """All that is real of a row with some chance, else one segment whose ends move out to the borders of its units.

    A segment is a uniform share of the row, at a uniform place. A unit, such as a phone, is hidden wholly or not at
    all, and one is hidden at least. Source: Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """

    full_mask_prob: float = 0.3
    """Chance that all is hidden."""
    min_fraction: float = 0.7
    """Smallest share of a segment, before its ends are moved."""
    max_fraction: float = 1.0
    """Largest share."""

    def __post_init__(self) -> None:
        if not 0 <= self.full_mask_prob <= 1 or not 0 <= self.min_fraction <= self.max_fraction <= 1:
            raise UsageError("a chance, and shares with 0 <= least <= most <= 1", self)

    @property
    def expected_fraction(self) -> float:
        """Expected share that is hidden, where every entry is a unit of its own."""
        return self.full_mask_prob + (1 - self.full_mask_prob) * (self.min_fraction + self.max_fraction) / 2

    def __call__(self, unit: Int[Tensor, "b n"], valid: Bool[Tensor, "b n"], rng: RandomStream) -> Bool[Tensor, "b n"]:
        """Return what is hidden.

        Args:
            unit: Number of the unit that each entry belongs to; does not fall along a row.
            valid: What is real.
            rng: Source of randomness; padding on the right changes nothing.
        """
        u = rng.uniform((len(unit), 4), torch.float64, unit.device)
        many = valid.sum(1, keepdim=True)
        fraction = self.min_fraction + (self.max_fraction - self.min_fraction) * u[:, :1]
        size = (fraction * many + u[:, 1:2]).floor()  # rounded so that its expectation is exact
        size = torch.where(u[:, 3:] < self.full_mask_prob, many, size.long().clamp(min=1).minimum(many))
        first = (u[:, 2:3] * (many - size + 1)).long()
        place = valid.cumsum(1) - 1
        inside = valid & (place >= first) & (place < first + size)
        low = unit.where(inside, unit.max() + 1).amin(1, keepdim=True)
        high = unit.where(inside, unit.min() - 1).amax(1, keepdim=True)
        return valid & (unit >= low) & (unit <= high)


def unit_ids(start: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Number units by where they begin."""
    return start.cumsum(1)


def label_changes(label: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Mark where another label begins: two units in a row that are alike are taken for one."""
    return torch.cat([torch.ones_like(label[:, :1], dtype=torch.bool), label[:, 1:] != label[:, :-1]], 1)
