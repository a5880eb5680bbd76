"""Random span masks for infilling: a whole row, or one long segment."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import RandomStream


@dataclass(frozen=True)
class SpanMask:
    """Mask of the whole row with some probability, else of one segment extended to the borders of its units.

    A segment has a uniform fraction of the row's length and a uniform position. Units, such as phones, are masked as a
    whole, at least one. Source: Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """

    full_mask_prob: float = 0.3
    """Probability of masking the whole row."""
    min_fraction: float = 0.7
    """Smallest length of a segment, as a fraction of the row, before extension to units."""
    max_fraction: float = 1.0
    """Largest length of a segment, as a fraction of the row."""

    def __post_init__(self) -> None:
        if not 0 <= self.full_mask_prob <= 1 or not 0 <= self.min_fraction <= self.max_fraction <= 1:
            raise UsageError("full_mask_prob in [0, 1] and 0 <= min_fraction <= max_fraction <= 1", self)

    @property
    def expected_fraction(self) -> float:
        """Expected masked fraction if each entry is a unit."""
        return self.full_mask_prob + (1 - self.full_mask_prob) * (self.min_fraction + self.max_fraction) / 2

    def __call__(self, unit: Int[Tensor, "b n"], valid: Bool[Tensor, "b n"], rng: RandomStream) -> Bool[Tensor, "b n"]:
        """Return the mask.

        Args:
            unit: Unit index of each entry, nondecreasing along a row.
            valid: Padding mask.
            rng: Random stream; padding on the right changes nothing.
        """
        u = rng.uniform((len(unit), 4), torch.float64, unit.device)
        many = valid.sum(1, keepdim=True)
        fraction = self.min_fraction + (self.max_fraction - self.min_fraction) * u[:, :1]
        size = (fraction * many + u[:, 1:2]).floor()  # stochastic rounding, exact in expectation
        size = torch.where(u[:, 3:] < self.full_mask_prob, many, size.long().clamp(min=1).minimum(many))
        first = (u[:, 2:3] * (many - size + 1)).long()
        place = valid.cumsum(1) - 1
        inside = valid & (place >= first) & (place < first + size)
        low = unit.where(inside, unit.max() + 1).amin(1, keepdim=True)
        high = unit.where(inside, unit.min() - 1).amax(1, keepdim=True)
        return valid & (unit >= low) & (unit <= high)


def unit_ids(start: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return the unit index of each entry from the mask of first entries."""
    return start.cumsum(1)


def label_changes(label: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Return the mask of entries with another label than the previous one; equal neighbours count as one unit."""
    return torch.cat([torch.ones_like(label[:, :1], dtype=torch.bool), label[:, 1:] != label[:, :-1]], 1)
