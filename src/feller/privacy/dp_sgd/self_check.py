"""Self-check of fast per-example gradients against a plain loop, on a copy of the network with shifted weights."""

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
"""Standard deviation of the noise added to the weights, because many gradients of a new network are exactly zero."""
TOLERANCE = 1e-3
"""Maximum relative difference between a fast method and the loop, in float32."""


@dataclass(frozen=True)
class SelfCheckResult:
    """Result of `self_check`: whether ghost clipping works for the network, and the largest error."""

    ghost_works: bool
    """True if ghost clipping applies; otherwise `vmap` is used."""
    reason: str
    """Reason why ghost clipping does not apply; empty if it applies."""
    error: float
    """Largest relative difference between the norms and sums of the fast method and those of the loop."""


def self_check(loss: LossFunction, network: nn.Module, example: dict[str, Any]) -> SelfCheckResult:
    """Compare ghost clipping (or `vmap` where it does not apply) with a loop over a few examples.

    Args:
        loss: Function (network, example) -> loss of each example, [b].
        network: Network, which is copied and not changed.
        example: Batch of 1 example or more; check two batch sizes before trusting a network.

    Raises:
        UsageError: If the results differ: an example's loss depends on other examples, or a grad sampler is wrong.
        UnsupportedError: If no example has a finite gradient.
    """
    network = shifted(network)
    norms = clipped_by_loop(loss, network, example, float("inf")).norms
    is_finite = norms.isfinite()
    if not is_finite.any():
        raise UnsupportedError("the self-check found no example with a finite gradient")
    example, norms = tree_map(lambda leaf: leaf[is_finite], example), norms[is_finite]
    clip = max(norms.median().item(), 1e-12)  # so that some are clipped and some are not
    expected = clipped_by_loop(loss, network, example, clip)
    try:
        actual, reason = clipped_by_ghost(loss, network, example, clip), ""
    except UnsupportedError as error:
        actual, reason = clipped_by_vmap(loss, network, example, clip), str(error)
    max_diff = relative_difference(actual, expected)
    if not max_diff <= TOLERANCE:
        raise UsageError(
            f"per-example gradients differ from a loop over the examples by {max_diff:.2g} of their norm: a row's loss "
            "depends on other rows or on random numbers, or a grad sampler is wrong"
        )
    return SelfCheckResult(not reason, reason, max_diff)


def shifted(network: nn.Module) -> nn.Module:
    """Return a copy of the network with randomly shifted weights."""
    network, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in trainable_params(network).values():
            weight += WEIGHT_NOISE * torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(
                weight.device
            )
    return network


def relative_difference(actual: ClippedSum, expected: ClippedSum) -> float:
    """Return the largest difference of norms and sums, relative to the largest norm and the largest sum."""
    max_norm = expected.norms.max().clamp(min=1e-30)
    differences = [((actual.norms - expected.norms).abs().max() / max_norm).item()]
    max_sum = max((sums.abs().max().item() for sums in expected.sums.values()), default=0.0) or 1.0
    for name, sums in expected.sums.items():
        actual_sums = actual.sums.get(name, torch.zeros_like(sums))
        differences.append((actual_sums - sums).abs().max().item() / max_sum)
    return max(differences)


def first_examples(example: dict[str, Any]) -> dict[str, Any]:
    """Return the first three examples of a batch; if it has no more than three, all but its last example."""
    n = min(3, num_examples(example) - 1)
    return tree_map(lambda leaf: leaf[:n], example)
