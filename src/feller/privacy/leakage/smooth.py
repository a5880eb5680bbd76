"""What gradients are multiplied with so that they are short, as functions that can be differentiated."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu

OVERSHOOT = 1.115221
"""Longest smoothly cut gradient, in clip norms, at a length of 1.5487: noise in units of it is less by this factor."""


def hard_clip(norms: Float[Tensor, " *b"], clip: float) -> Float[Tensor, " *b"]:
    """Return min(1, clip / norm), which has a slope everywhere but at the clip norm, where it takes that from below."""
    return clip / norms.clamp(min=clip)


def smooth_clip(norms: Float[Tensor, " *b"], clip: float) -> Float[Tensor, " *b"]:
    """Return 1 / (1 + GELU(norm / clip - 1)), which has a slope everywhere, and lets gradients be `OVERSHOOT` long.

    Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 5.
    """
    return 1 / (1 + gelu(norms / clip - 1))
