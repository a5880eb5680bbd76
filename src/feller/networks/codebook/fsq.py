"""Finite scalar quantisation (FSQ)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.networks.codebook.quantizer import Codebook, Quantizer, straight_through


@dataclass(frozen=True)
class FSQ(Quantizer):
    """Finite scalar quantisation: each entry of a vector is bounded and rounded to one of a few levels.

    The codebook is fixed, so it has no codes that fall out of use in training. Source: Mentzer et al. 2023, "Finite
    scalar quantization: VQ-VAE made simple", arXiv 2309.15505.
    """

    levels: tuple[int, ...] = (8, 8, 4)
    """Number of levels of each entry, at least 3; the product of these numbers is the number of codes."""

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3 or self.codebook_size > 2**31:
            raise UsageError(
                "at least 3 levels in each dimension, and a product of all levels of at most 2^31", self.levels
            )

    @property
    def codebook_size(self) -> int:
        return math.prod(self.levels)

    @property
    def code_dim(self) -> int:
        return len(self.levels)

    def build(self) -> "FSQCodebook":
        return FSQCodebook(self)


class FSQCodebook(Codebook):
    """Codebook of `FSQ`: a code is a mixed-radix number, least significant digit first; code vectors lie in [-1, 1].

    An entry z with L levels is bounded to h tanh(z + s) - o, where h = (L - 1) / 2. For even L the range is [-L / 2, L
    / 2 - 1], with offset o = 1/2 and shift s = artanh(o / h), so that z = 0 maps to 0. For odd L, o and s are zero.
    """

    def __init__(self, config: FSQ) -> None:
        super().__init__()
        self.config = config

    def forward(self, z: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, " b"]]:
        bounded = self._bounded(z)
        return straight_through(bounded, bounded.round()) / self._half(bounded), bounded.new_zeros(len(z))

    def encode(self, z: Float[Tensor, "*n d"]) -> Int64[Tensor, " *n"]:
        bounded = self._bounded(z)
        digits = (bounded.round() + self._half(bounded)).long()
        return (digits * self._places(z.device)).sum(-1)

    def decode(self, codes: Int64[Tensor, " *n"]) -> Float[Tensor, "*n d"]:
        levels = torch.tensor(self.config.levels, device=codes.device)
        digits = codes[..., None] // self._places(codes.device) % levels
        half = levels // 2
        return (digits - half) / half

    def _bounded(self, z: Tensor) -> Tensor:
        """Bound each entry to the range of its levels, in float32 or higher precision."""
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        half_ranges = [(level - 1) / 2 for level in self.config.levels]
        offsets = [0.0 if level % 2 else 0.5 for level in self.config.levels]
        shifts = [math.atanh(o / h) for o, h in zip(offsets, half_ranges, strict=True)]
        return z.new_tensor(half_ranges) * (z + z.new_tensor(shifts)).tanh() - z.new_tensor(offsets)

    def _half(self, like: Tensor) -> Tensor:
        """Return the index L // 2 of the level at zero, for each entry."""
        return like.new_tensor([level // 2 for level in self.config.levels])

    def _places(self, device: torch.device) -> Int64[Tensor, " d"]:
        """Return the factor of each entry's level in the code, which is a number in mixed radix."""
        levels = self.config.levels
        return torch.tensor([math.prod(levels[:i]) for i in range(len(levels))], device=device)
