"""Time and conditions as one vector per example, and how it enters a block."""

import math
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, leaves

Layer = TypeVar("Layer", bound=nn.Module)

RESERVED_KEYS = frozenset({"valid", "known"})
"""Keys of `given` that every network accepts: which entries are real, and which are kept."""
TIME_OCTAVES = 9
"""Frequencies of time: 1/4, 1/2, 1, ..., 64 cycles over [0, 1]; the slowest alone tells all times apart."""


def fourier_features(x: Float[Tensor, " *d"], octaves: int) -> Float[Tensor, " *d features"]:
    """Return the sines and cosines of each number at 1/4, 1/2, 1, ... cycles per unit, two per octave."""
    frequencies = torch.arange(octaves, dtype=x.dtype, device=x.device).exp2() * (math.pi / 2)
    angles = x[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


def modulate(
    x: Float[Tensor, " b *d"], scale: Float[Tensor, " b #*d"], shift: Float[Tensor, " b #*d"]
) -> Float[Tensor, " b *d"]:
    """Scale and shift normalised features; a scale of 0 leaves them as they are."""
    return x * (1 + scale) + shift


def zero_init(layer: Layer) -> Layer:
    """Let a layer answer with zero until it is trained."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


class SummedConditioning(nn.Module):
    """Fourier features of the times plus one embedding per condition, for a network that adds them to its features."""

    def __init__(self, conditions: dict[str, int], width: int, times: int = 1) -> None:
        super().__init__()
        self.null_values: dict[str, int | float] = dict(conditions)
        """Value of each condition that stands for "not given"; it has an embedding of its own."""
        self.names = sorted(conditions)
        self.time = nn.Linear(2 * TIME_OCTAVES * times, width)
        self.embeddings = nn.ModuleList(nn.Embedding(conditions[name] + 1, width) for name in self.names)

    def forward(self, t: State, cond: Cond) -> Float[Tensor, "b width"]:
        """Return the sum, from times [b]: one, or one for each leaf of a state.

        A condition is given by its number, [b], or, where it is searched for, by a vector in place of its embedding,
        [b, width].

        Raises:
            KeyError: If a condition is missing or unknown.
        """
        if cond.keys() - RESERVED_KEYS != self.null_values.keys():
            expected = ", ".join(f"{name} (0 to {self.null_values[name]}, the last: not given)" for name in self.names)
            raise KeyError(
                f"expected the conditions {expected or 'none'}, got {', '.join(sorted(cond)) or 'none'}; "
                "give each condition that the network was built with, and no other"
            )
        features = torch.cat([fourier_features(time, TIME_OCTAVES) for time in leaves(t)], 1).to(self.time.weight.dtype)
        vector = self.time(features)
        for name in self.names:
            vector = vector + self.embedding(name, cond[name])
        return vector

    def embedding(self, name: str, value: Tensor) -> Float[Tensor, "b width"]:
        """Return what stands for a condition: a row of its table for a number, or the vector itself that was given."""
        return value if value.is_floating_point() else self.embeddings[self.names.index(name)](value)


class Conditioning(SummedConditioning):
    """The same sum, mixed by a small network, for a network whose blocks it modulates."""

    def __init__(self, conditions: dict[str, int], width: int, times: int = 1) -> None:
        super().__init__(conditions, width, times)
        self.mix = nn.Linear(width, width)

    def forward(self, t: State, cond: Cond) -> Float[Tensor, "b width"]:
        return F.silu(self.mix(F.silu(super().forward(t, cond))))


def condition_embeddings(network: nn.Module, cond: Cond) -> dict[str, Tensor]:
    """Return the vectors that stand for conditions in a network, [b, width] each; it takes them in their place.

    Raises:
        UsageError: If the network sums no embeddings of conditions.
    """
    summed = next((part for part in network.modules() if isinstance(part, SummedConditioning) and part.names), None)
    if summed is None:
        raise UsageError("this model's network has no embeddings of conditions that a search could move")
    return {name: summed.embedding(name, cond[name]).detach() for name in summed.names}
