"""Embedding of time and conditions in one vector per example, and modulation of features by this vector."""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import STEP_END, Cond, State, leaves
from feller.networks.blocks.condition_encoders import ConditionTypes, build_encoder, fourier_features, null_of
from feller.networks.training_inputs import AUGMENTATION

Layer = TypeVar("Layer", bound=nn.Module)

RESERVED_KEYS = frozenset({"valid", "known"})
"""Keys of `cond` that every network accepts: the padding mask and the observed mask."""
TIME_OCTAVES = 9
"""Number of octaves of the Fourier features of time: 1/4, 1/2, ..., 64 cycles over [0, 1]; the slowest frequency maps
time one-to-one."""

STEP_OCTAVES = 3
"""Number of octaves of the Fourier features of the length of a step: 1/4, 1/2 and 1 cycle over [0, 1]. They are few,
because objectives of flow maps differentiate the network by the end of a step."""


def modulate(
    x: Float[Tensor, " b *d"], scale: Float[Tensor, " b #*d"], shift: Float[Tensor, " b #*d"]
) -> Float[Tensor, " b *d"]:
    """Return x (1 + scale) + shift for normalised features x; a scale and shift of 0 leave x unchanged."""
    return x * (1 + scale) + shift


def zero_init(layer: Layer) -> Layer:
    """Initialise all parameters of a layer to zero and return it."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


class SummedConditioning(nn.Module):
    """Sum of the embeddings of time, by Fourier features, and of conditions, which is added to a network's features."""

    def __init__(
        self, conditions: ConditionTypes, width: int, times: int = 1, *, augmentation_features: int = 0
    ) -> None:
        super().__init__()
        self.null_values: dict[str, int | float] = {name: null_of(kind) for name, kind in conditions.items()}
        """Null value of each condition; each null value has its own embedding."""
        self.names = sorted(conditions)
        self.num_times = times
        self.time = nn.Linear(2 * TIME_OCTAVES * times, width)
        self.embeddings = nn.ModuleList(build_encoder(conditions[name], width) for name in self.names)
        is_told = augmentation_features > 0
        self.augmentation = zero_init(nn.Linear(augmentation_features, width, bias=False)) if is_told else None
        """Embedding of the augmentation in training, without a bias: no augmentation adds nothing."""
        self.end: nn.Linear | None = None
        """Embedding of the length s - t of a step; see `WithStepEnd`."""
        self.time_octaves = TIME_OCTAVES
        """Number of octaves of the features of time that are used; the others are zero."""

    def forward(self, t: State, cond: Cond) -> Float[Tensor, "b width"]:
        """Return the sum of the embeddings of the times, [b] or a dict of [b] per state component, and of conditions.

        A condition is a class index, [b], or a value of its `Condition`, [b, ...]. An embedding vector, [b, width], may
        replace the embedding of a class. The features of an augmentation may be absent, which stands for zeros.

        Raises:
            KeyError: If a condition is missing from `cond` or unknown.
        """
        augmentation = None if self.augmentation is None else cond.get(AUGMENTATION)
        accepted = RESERVED_KEYS if augmentation is None else RESERVED_KEYS | {AUGMENTATION}
        accepted = accepted if self.end is None else accepted | {STEP_END}
        if cond.keys() - accepted != self.null_values.keys():
            expected = ", ".join(f"{name} (null value {self.null_values[name]})" for name in self.names)
            raise KeyError(
                f"expected the conditions {expected or 'none'}, got {', '.join(sorted(cond)) or 'none'}; "
                "pass exactly the conditions that the network was built with"
            )
        features = torch.cat([fourier_features(time, TIME_OCTAVES) for time in leaves(t)], 1).to(self.time.weight.dtype)
        if self.time_octaves < TIME_OCTAVES:
            is_used = torch.arange(features.shape[1], device=features.device) % TIME_OCTAVES < self.time_octaves
            features = torch.where(is_used, features, 0.0)
        vector = self.time(features)
        for name in self.names:
            vector = vector + self.embedding(name, cond[name])
        if self.end is not None:
            vector = vector + self.end(_step_features(t, cond.get(STEP_END)).to(self.end.weight.dtype))
        if augmentation is not None and self.augmentation is not None:
            vector = vector + self.augmentation(augmentation.to(vector.dtype))
        return vector

    def embedding(self, name: str, value: Tensor) -> Float[Tensor, "b width"]:
        """Return the embedding of values of the condition `name`; embeddings of classes are returned unchanged."""
        encoder = self.embeddings[self.names.index(name)]
        return value if isinstance(encoder, nn.Embedding) and value.is_floating_point() else encoder(value)


def _step_features(t: State, end: Tensor | None) -> Float[Tensor, "b features"]:
    """Return the Fourier features of the length of the step from t to `end`, for each time; None for a length of 0."""
    lengths = [torch.zeros_like(time) if end is None else end - time for time in leaves(t)]
    return torch.cat([fourier_features(length, STEP_OCTAVES) for length in lengths], 1)


class Conditioning(SummedConditioning):
    """Sum of the embeddings of time and conditions, mixed by an MLP, for adaptive modulation of blocks."""

    def __init__(
        self, conditions: ConditionTypes, width: int, times: int = 1, *, augmentation_features: int = 0
    ) -> None:
        super().__init__(conditions, width, times, augmentation_features=augmentation_features)
        self.mix = nn.Linear(width, width)

    def forward(self, t: State, cond: Cond) -> Float[Tensor, "b width"]:
        return F.silu(self.mix(F.silu(super().forward(t, cond))))


def condition_embeddings(network: nn.Module, cond: Cond) -> dict[str, Tensor]:
    """Return the embedding of each condition's classes in `cond`, [b, width], by name.

    The network accepts these vectors in place of the class indices, for example to optimize them.

    Raises:
        UsageError: If the network has no condition embeddings, or a condition is no class.
    """
    conditioning = next(
        (module for module in network.modules() if isinstance(module, SummedConditioning) and module.names), None
    )
    if conditioning is None:
        raise UsageError("this model's network has no condition embeddings to optimize")
    encoders = dict(zip(conditioning.names, conditioning.embeddings, strict=True))
    if others := [name for name, encoder in encoders.items() if not isinstance(encoder, nn.Embedding)]:
        raise UsageError("conditions that are classes, whose embeddings can be optimized", found=", ".join(others))
    return {name: conditioning.embedding(name, cond[name]).detach() for name in conditioning.names}
