"""Transformer over frames whose last blocks look back at what the first ones said."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.networks.blocks.conditioning import zero
from feller.networks.blocks.distance import Distance
from feller.networks.blocks.time_conditioning import Clock

REACH = 31
"""Frames that the convolution before the first block sees."""
GROUPS = 16
"""Groups of features that it keeps apart, or as many as divide the width."""


class Folded(nn.Module):
    """Blocks of attention; block i from the end also reads what block i from the beginning said.

    A convolution tells each frame where it is among its neighbours. Padding changes nothing. Source: Le et al. 2023,
    "Voicebox", arXiv 2306.15687; the convolution is that of Baevski et al. 2020, "wav2vec 2.0", arXiv
    2006.11477. A joint starts as the identity of the later features.
    """

    def __init__(self, width: int, depth: int, heads: int, clock: Clock, distance: Distance) -> None:
        super().__init__()
        self.heads, self.distance = heads, distance
        self.near = nn.Conv1d(width, width, REACH, groups=math.gcd(width, GROUPS))
        self.clock = clock.enter(width)
        self.blocks = nn.ModuleList(clock.block(width, heads) for _ in range(depth))
        self.joints = nn.ModuleList(zero(nn.Linear(2 * width, width)) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, h: Float[Tensor, "b n width"], t: Float[Tensor, " b"], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Return the features of each frame."""
        h = h + self._neighbours(h, valid)
        tokens, vector = self.clock(t)
        many = tokens.shape[1]
        h = torch.cat([tokens.to(h.dtype), h], 1)
        attend = self.distance.attend(_seen(valid, many), h, self.heads, many)
        half, rest, early = len(self.joints), len(self.blocks) - len(self.joints), []
        for i, block in enumerate(self.blocks):
            if i >= rest:
                h = h + self.joints[i - rest](torch.cat([h, early.pop()], 2))
            h = block(h, vector.to(h.dtype), attend)
            if i < half:
                early.append(h)
        return self.norm(h[:, many:])

    def _neighbours(
        self, h: Float[Tensor, "b n width"], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Return what the frames around each say; padding says nothing."""
        seen = h if valid is None else h * valid[:, :, None]
        weight, sides = self.near.weight[:, :, None], (0, REACH // 2)
        # torch's convolution in two dimensions is faster than its own in one
        y = F.conv2d(seen.mT[:, :, None], weight, self.near.bias, padding=sides, groups=self.near.groups)
        return F.gelu(y[:, :, 0].mT, approximate="tanh")


def _seen(valid: Bool[Tensor, "b n"] | None, tokens: int) -> Bool[Tensor, "b places"] | None:
    """Return the places that attention sees: tokens and frames, or all where there is none of either."""
    if valid is None:
        return None
    some = valid | ~valid.any(1, keepdim=True)
    return F.pad(some, (tokens, 0), value=True)
