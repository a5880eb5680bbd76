"""How near sites are, as attention sees it: along a chain, or by the differences of a leaf."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from feller.networks.blocks.conditioning import fourier, zero

OCTAVES = 3
"""Frequencies of each difference: waves of angles, or from 1/4 cycle per unit up."""
ENDS = 5
"""Features that say where a place of a chain is."""


class Along(nn.Module):
    """A bias for each distance along a chain, up to a reach. Source: Shaw et al. 2018, arXiv 1803.02155."""

    def __init__(self, heads: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.near = nn.Parameter(_slopes(heads, reach))

    def forward(self, n: int) -> Float[Tensor, "heads n n"]:
        """Return what is added to the attention of n places."""
        place = torch.arange(n, device=self.near.device)
        return self.near[:, (place - place[:, None]).clamp(-self.reach, self.reach) + self.reach]


class Apart(nn.Module):
    """A bias from the differences of a leaf between two sites, by a small network that starts silent."""

    def __init__(self, heads: int, size: int, turn: float | None) -> None:
        super().__init__()
        self.turn = turn
        self.first = nn.Linear(2 * OCTAVES * size, 32)
        self.second = zero(nn.Linear(32, heads))

    def forward(self, x: Float[Tensor, "b n k"]) -> Float[Tensor, "b heads n n"]:
        """Return what is added to the attention."""
        differences = x[:, :, None] - x[:, None]
        if self.turn is not None:
            differences = differences * (4 / self.turn)  # the slowest wave takes 4
        waves = fourier(differences, OCTAVES).flatten(3)
        return self.second(torch.relu(self.first(waves))).permute(0, 3, 1, 2)


def ends(valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, "b n 5"]:
    """Return how near both ends of a chain are, at two scales each, and how long it is."""
    place = torch.arange(valid.shape[1], dtype=like.dtype, device=like.device).expand(valid.shape)
    left = (valid.sum(1, keepdim=True).to(like.dtype) - 1 - place).clamp(min=0)
    parts = [(-place).exp(), (-place / 8).exp(), (-left).exp(), (-left / 8).exp(), number(valid, like)[:, :, 0]]
    return torch.stack(parts, 2) * valid[:, :, None]


def number(valid: Bool[Tensor, "b n"], like: Tensor) -> Float[Tensor, "b n 1"]:
    """Return how many sites there are, as a feature of each."""
    return (valid.sum(1).to(like.dtype).clamp(min=1).log() / 5)[:, None, None].expand(*valid.shape, 1)


def _slopes(heads: int, reach: int) -> Float[Tensor, "heads distances"]:
    """Return a start for the bias by distance: each head falls off at its own rate, the last hardly.

    Source: Press et al. 2022, "Train short, test long", arXiv 2108.12409.
    """
    slopes = 2.0 ** -torch.arange(0, 2 * heads, 2)
    return -slopes[:, None] * torch.arange(-reach, reach + 1).abs()
