"""Staying near the pictures that an autoencoder sees between two ends.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233; the turn between codes is that of
Shoemake 1985, "Animating rotation with quaternion curves".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.costs.state_cost import PopulationDensity, StateCost, check_finite
from feller.core.errors import UsageError

Coder = Callable[[Tensor], Tensor]
"""States [n, d] -> codes [n, z], or back."""
AT_ONCE = 4096
"""States that are encoded or decoded in one piece."""
LOOKED_AT = 16
"""States between which a way is tried."""


@dataclass(frozen=True, eq=False)
class NearLatentPath(StateCost):
    """Mean absolute difference of a state's entries from what is decoded between the codes of a pair's ends."""

    encode: Coder
    decode: Coder
    frames: int = 33
    """Times at which the way is decoded, once for each pair; between them it is interpolated."""

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise UsageError("2 frames of a latent path or more", self.frames)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> NoReturn:
        """Refuse: without a pair there is no way.

        Raises:
            UsageError: Always.
        """
        raise UsageError("a latent path lies between the ends of a pair: ask for_pairs(x_0, x_1) first")

    def bind_pairs(self, x_0: Float[Tensor, "pairs d"], x_1: Float[Tensor, "pairs d"]) -> "NearFrames":
        """Decode the ways of some pairs."""
        with torch.no_grad():
            z_0, z_1 = (_pieces(self.encode, x) for x in (x_0, x_1))
            times = torch.linspace(0, 1, self.frames, dtype=z_0.dtype, device=z_0.device)
            codes = torch.stack([slerp(z_0, z_1, t) for t in times], 1)
            return NearFrames(_pieces(self.decode, codes.flatten(0, 1)).unflatten(0, codes.shape[:2]))

    def validated(self, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None) -> StateCost:
        """Check what is decoded between some states."""
        some, times = x.reshape(-1, x.shape[-1])[:LOOKED_AT], t.expand(x.shape[:-1]).reshape(-1)[:LOOKED_AT]
        check_finite(self.bind_pairs(some, some.flip(0)), some, times)
        return self


@dataclass(frozen=True, eq=False)
class NearFrames(StateCost):
    """Mean absolute difference from a way that is known, for each of some pairs, at equally spaced times."""

    frames: Float[Tensor, "pairs frames d"]

    def __call__(
        self, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
    ) -> Float[Tensor, "*b"]:
        """Return it; draws of one pair are beside each other, at one time."""
        pairs, last = len(self.frames), self.frames.shape[1] - 1
        *before, n = x.shape[:-1]
        if n % pairs:
            raise UsageError(f"states of {pairs} pairs, as many of each", n)
        draws = n // pairs
        place = t.expand(*before, n)[..., ::draws] * last
        low = place.long().clamp(0, last - 1)
        pair = torch.arange(pairs, device=x.device)
        way = torch.lerp(
            self.frames[pair, low], self.frames[pair, low + 1], (place - low)[..., None].to(self.frames.dtype)
        )
        return (x.unflatten(-2, (pairs, draws)) - way[..., None, :].to(x.dtype)).abs().mean(-1).flatten(-2)


def slerp(z_0: Float[Tensor, "n z"], z_1: Float[Tensor, "n z"], t: Tensor | float) -> Float[Tensor, "n z"]:
    """Turn one code into another: along a great circle if they are as long, in equal angles."""
    cosine = torch.nn.functional.cosine_similarity(z_0, z_1, dim=1)[:, None]
    angle = cosine.clamp(-1, 1).acos()
    sine = angle.sin()
    small = sine < 1e-4  # as good as along one line, where the turn is not defined
    safe = torch.where(small, 1.0, sine)
    turned = (torch.sin((1 - t) * angle) * z_0 + torch.sin(t * angle) * z_1) / safe
    return torch.where(small, (1 - t) * z_0 + t * z_1, turned)


def _pieces(coder: Coder, x: Float[Tensor, "n d"]) -> Float[Tensor, "n z"]:
    """Encode or decode in pieces."""
    return torch.cat([coder(part) for part in x.split(AT_ONCE)])
