"""Whether fast gradients of single examples are right: against a plain loop, on a copy with other weights."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from feller.core.errors import UsageError
from feller.core.gradient import LossFunction
from feller.core.pytree import num_examples, tree_map
from feller.privacy.dp_sgd.ghost_clipping import clipped_by_ghost
from feller.privacy.dp_sgd.per_example_clipping import ClippedSum, UnsupportedError, trainable_params
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_loop, clipped_by_vmap

WEIGHT_NOISE = 0.05
"""Standard deviation of what is added to weights before the check: in a new network many gradients are zero."""
TOLERANCE = 1e-3
"""Of the longest gradient, in single precision."""


@dataclass(frozen=True)
class SelfCheckResult:
    """What the check found."""

    ghost_works: bool
    """One pass serves; else gradients are laid out by `vmap`."""
    reason: str
    """Why one pass does not serve."""
    error: float
    """Largest difference from the loop, of norms and of sums, over the longest gradient."""


def self_check(loss: LossFunction, network: nn.Module, example: dict[str, Any]) -> SelfCheckResult:
    """Compare the way that would be taken with a loop over the examples, of which few are enough.

    Args:
        loss: (network, example) -> [b].
        network: Is copied; its own weights stay as they are.
        example: Of 1 example or more; two sizes of batch must pass before a network is trusted.

    Raises:
        UsageError: If they differ: then one example's loss depends on others, or a rule is wrong.
    """
    network = shifted(network)
    norms = clipped_by_loop(loss, network, example, float("inf")).norms
    finite = norms.isfinite()
    if not finite.any():
        raise UnsupportedError("no example with a finite gradient to check the fast way on")
    example, norms = tree_map(lambda leaf: leaf[finite], example), norms[finite]
    clip = max(norms.median().item(), 1e-12)  # so that some are clipped and some are not
    slow = clipped_by_loop(loss, network, example, clip)
    try:
        found, reason = clipped_by_ghost(loss, network, example, clip), ""
    except UnsupportedError as error:
        found, reason = clipped_by_vmap(loss, network, example, clip), str(error)
    apart = relative_difference(found, slow)
    if not apart <= TOLERANCE:
        raise UsageError(
            f"the gradients of single examples differ by {apart:.2g} of their length from those of a loop over the "
            "examples: a row's loss depends on the rest of the batch or on chance, or a layer's rule is wrong"
        )
    return SelfCheckResult(not reason, reason, apart)


def shifted(network: nn.Module) -> nn.Module:
    """Return a copy of a network with other weights."""
    network, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in trainable_params(network).values():
            weight += WEIGHT_NOISE * torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(
                weight.device
            )
    return network


def relative_difference(actual: ClippedSum, expected: ClippedSum) -> float:
    """Return the largest difference of norms and sums, over the longest gradient and the longest sum."""
    longest = expected.norms.max().clamp(min=1e-30)
    apart = [((actual.norms - expected.norms).abs().max() / longest).item()]
    largest = max((sums.abs().max().item() for sums in expected.sums.values()), default=0.0) or 1.0
    for name, sums in expected.sums.items():
        other = actual.sums.get(name, torch.zeros_like(sums))
        apart.append((other - sums).abs().max().item() / largest)
    return max(apart)


def first_examples(example: dict[str, Any], max_examples: int = 3) -> dict[str, Any]:
    """Return some of the examples, and not all of them."""
    n = min(max_examples, num_examples(example) - 1)
    return tree_map(lambda leaf: leaf[:n], example)
