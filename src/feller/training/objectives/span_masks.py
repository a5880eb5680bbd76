"""Sampling of random masks for infilling of sequences: the whole sequence, or one long segment."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import RandomStream


@dataclass(frozen=True)
class SpanMask:
    """Distribution of masks: the whole sequence with probability `full_mask_prob`, else one segment of whole units.

    The length of a segment is a uniformly random fraction of the sequence, and its position is uniform. The segment is
    extended to whole units, such as phones, and to at least one unit. Source: Le et al. 2023, "Voicebox", arXiv
    2306.15687.
    """

    full_mask_prob: float = 0.3
    """Probability of masking the whole sequence."""
    min_fraction: float = 0.7
    """Smallest length of a segment, as a fraction of the sequence, before extension to whole units."""
    max_fraction: float = 1.0
    """Largest length of a segment, as a fraction of the sequence."""

    def __post_init__(self) -> None:
        if not 0 <= self.full_mask_prob <= 1 or not 0 <= self.min_fraction <= self.max_fraction <= 1:
            raise UsageError("full_mask_prob in [0, 1] and 0 <= min_fraction <= max_fraction <= 1", self)

    @property
    def expected_fraction(self) -> float:
        """Expected masked fraction of a sequence if each entry is its own unit."""
        return self.full_mask_prob + (1 - self.full_mask_prob) * (self.min_fraction + self.max_fraction) / 2

    def __call__(self, unit: Int[Tensor, "b n"], valid: Bool[Tensor, "b n"], rng: RandomStream) -> Bool[Tensor, "b n"]:
        """Sample a mask of the entries to infill.

        Args:
            unit: Unit index of each entry, nondecreasing along a sequence.
            valid: Padding mask.
            rng: Random stream; padding on the right does not change the mask.
        """
        u = rng.uniform((len(unit), 4), torch.float64, unit.device)
        lengths = valid.sum(1, keepdim=True)
        fraction = self.min_fraction + (self.max_fraction - self.min_fraction) * u[:, :1]
        span = (fraction * lengths + u[:, 1:2]).floor()  # stochastic rounding, exact in expectation
        span = torch.where(u[:, 3:] < self.full_mask_prob, lengths, span.long().clamp(min=1).minimum(lengths))
        start = (u[:, 2:3] * (lengths - span + 1)).long()
        position = valid.cumsum(1) - 1
        in_span = valid & (position >= start) & (position < start + span)
        low = unit.where(in_span, unit.max() + 1).amin(1, keepdim=True)
        high = unit.where(in_span, unit.min() - 1).amax(1, keepdim=True)
        return valid & (unit >= low) & (unit <= high)


def unit_ids(start: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return the unit index of each entry, given a mask of the first entry of each unit."""
    return start.cumsum(1)


def label_changes(label: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Return a mask of the entries whose label differs from the previous label; each starts a unit."""
    return torch.cat([torch.ones_like(label[:, :1], dtype=torch.bool), label[:, 1:] != label[:, :-1]], 1)
