"""State cost: distance to a spherical interpolation in the latent space of an autoencoder.

Source: Liu et al. 2024, "Generalized Schrödinger bridge matching", arXiv 2310.02233; slerp is that of
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

CodeFn = Callable[[Tensor], Tensor]
"""Encoder, states [n, d] -> codes [n, z], or decoder."""
BATCH_SIZE = 4096
"""Batch size of encoding and decoding."""
NUM_CHECKED = 16
"""Number of states in the validation of the cost."""


@dataclass(frozen=True, eq=False)
class NearLatentPath(StateCost):
    """Mean absolute difference between a state and the decoded latent interpolation of the ends of its pair."""

    encode: CodeFn
    decode: CodeFn
    frames: int = 33
    """Number of decoded times per pair; linear interpolation in between."""

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise UsageError("2 frames of a latent path or more", self.frames)

    def __call__(self, x: Tensor, t: Tensor, population: PopulationDensity | None = None) -> NoReturn:
        """Raise an error: the cost needs pairs.

        Raises:
            UsageError: Always.
        """
        raise UsageError("a latent path lies between the ends of a pair: ask for_pairs(x_0, x_1) first")

    def bind_pairs(self, x_0: Float[Tensor, "pairs d"], x_1: Float[Tensor, "pairs d"]) -> "NearFrames":
        """Return the cost of the decoded paths of pairs."""
        with torch.no_grad():
            z_0, z_1 = (_in_batches(self.encode, x) for x in (x_0, x_1))
            times = torch.linspace(0, 1, self.frames, dtype=z_0.dtype, device=z_0.device)
            codes = torch.stack([slerp(z_0, z_1, t) for t in times], 1)
            return NearFrames(_in_batches(self.decode, codes.flatten(0, 1)).unflatten(0, codes.shape[:2]))

    def validated(self, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None) -> StateCost:
        """Return the cost after a check that decoded values are finite."""
        states, times = x.reshape(-1, x.shape[-1])[:NUM_CHECKED], t.expand(x.shape[:-1]).reshape(-1)[:NUM_CHECKED]
        check_finite(self.bind_pairs(states, states.flip(0)), states, times)
        return self


@dataclass(frozen=True, eq=False)
class NearFrames(StateCost):
    """Mean absolute difference from a given path for each pair, at equally spaced times."""

    frames: Float[Tensor, "pairs frames d"]

    def __call__(
        self, x: Float[Tensor, "*b d"], t: Tensor, population: PopulationDensity | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the cost; samples of one pair are consecutive and share a time."""
        pairs, last = len(self.frames), self.frames.shape[1] - 1
        *leading, n = x.shape[:-1]
        if n % pairs:
            raise UsageError(f"states of {pairs} pairs, as many of each", n)
        num_draws = n // pairs
        position = t.expand(*leading, n)[..., ::num_draws] * last
        low = position.long().clamp(0, last - 1)
        pair = torch.arange(pairs, device=x.device)
        path = torch.lerp(
            self.frames[pair, low], self.frames[pair, low + 1], (position - low)[..., None].to(self.frames.dtype)
        )
        return (x.unflatten(-2, (pairs, num_draws)) - path[..., None, :].to(x.dtype)).abs().mean(-1).flatten(-2)


def slerp(z_0: Float[Tensor, "n z"], z_1: Float[Tensor, "n z"], t: Tensor | float) -> Float[Tensor, "n z"]:
    """Return the spherical linear interpolation of codes."""
    cosine = torch.nn.functional.cosine_similarity(z_0, z_1, dim=1)[:, None]
    angle = cosine.clamp(-1, 1).acos()
    sine = angle.sin()
    small = sine < 1e-4  # nearly collinear, where slerp is not defined
    safe = torch.where(small, 1.0, sine)
    interpolated = (torch.sin((1 - t) * angle) * z_0 + torch.sin(t * angle) * z_1) / safe
    return torch.where(small, (1 - t) * z_0 + t * z_1, interpolated)


def _in_batches(code_fn: CodeFn, x: Float[Tensor, "n d"]) -> Float[Tensor, "n z"]:
    """Return the encoded or decoded states, batch by batch."""
    return torch.cat([code_fn(part) for part in x.split(BATCH_SIZE)])
