"""Inputs that networks get in training only: the augmentation of an example, and random numbers for dropout.

They are entries of `cond` under names that no column has. Samplers never pass them, so that samples, likelihoods and
evaluations have neither augmentation nor dropout.
"""

from jaxtyping import Float
from torch import Tensor, nn

AUGMENTATION = "/augmentation"
"""Key of the features of the augmentation, [b, features]; absent stands for zeros, no augmentation."""
DROPOUT = "/dropout"
"""Key of uniform random numbers, one per feature that dropout can drop, [b, features]; absent stands for no dropout."""


def count_inputs(network: nn.Module, kind: str) -> int:
    """Return the number of features of a training input that a network takes; 0 if it does not take the input.

    `kind` is AUGMENTATION or DROPOUT. The first module with a dict `training_inputs` decides.
    """
    for module in network.modules():
        if isinstance(inputs := getattr(module, "training_inputs", None), dict):
            return inputs[kind]
    return 0


def dropout_masks(
    uniform: Float[Tensor, "b features"] | None, prob: float, widths: list[int]
) -> list[Tensor] | list[None]:
    """Return a factor for each feature of each layer: 0 with probability `prob`, else 1 / (1 - prob).

    Args:
        uniform: Random numbers, one per feature of all layers; None for no dropout, which returns None for each layer.
        prob: Probability of dropping a feature. Whole channels of an image are dropped: Tompson et al. 2015,
            arXiv 1411.4280.
        widths: Number of features of each layer.
    """
    return [None for _ in widths] if uniform is None else [*((uniform >= prob) / (1 - prob)).split(widths, 1)]
