"""Distributions that orders, counts and re-masking sample: total variation to a chain with the exact network.

Of n = 100,000 samples of 81 sequences, the total variation of exact sampling has a mean of at most 0.0101: half the sum
of sqrt(p (1 - p) / n). One sample changes it by at most 1 / n, so that it exceeds its mean by 0.011 with probability
below exp(-2 n 0.011^2) = 4e-11, by McDiarmid's inequality: exact samplers stay below EXACT = 0.0212.
"""

import math

import pytest
import torch

from feller.paths import (
    CappedRemasking,
    ConfidenceOrder,
    ConfidenceRemasking,
    ConfidenceThreshold,
    EntropyBound,
    EntropyOrder,
    LearnedOrder,
    MarginOrder,
    Mixture,
    PathPlanning,
    RemaskingCorrector,
    RescaledRemasking,
)
from feller.spaces import MaskSource
from tests.paths.discrete.markov_chain import LENGTH, PROBS, right_logits, total_variation

N = 100_000
EXACT = 0.0212


def variation(steps: int, **options) -> float:
    return total_variation(Mixture(source=MaskSource(), **options), steps, N)


def test_bound_of_exact_samplers() -> None:
    mean = 0.5 * (PROBS * (1 - PROBS) / N).sqrt().sum().item()
    assert mean + 0.011 < EXACT
    assert math.exp(-2 * N * 0.011**2) < 4e-11


@pytest.mark.parametrize(
    "options",
    [
        {"unmasking_order": ConfidenceOrder(math.inf)},
        {"unmasking_order": EntropyOrder()},
        {"unmasking_order": MarginOrder()},
        {"unmasking_count": EntropyBound(0.0)},
        {"unmasking_count": EntropyBound(0.0), "unmasking_order": ConfidenceOrder(math.inf)},
        {"unmasking_count": ConfidenceThreshold(1.0), "unmasking_order": MarginOrder()},
    ],
)
def test_one_token_per_step_is_exact_if_the_order_ignores_sampled_values(options) -> None:
    assert variation(LENGTH, **options) < EXACT


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"unmasking_order": ConfidenceOrder(0.0)}, 0.537),
        ({"unmasking_order": ConfidenceOrder(1.0)}, 0.177),
        ({"unmasking_order": LearnedOrder(right_logits)}, 0.230),
        ({"unmasking_order": PathPlanning()}, 0.552),
        ({"unmasking_order": PathPlanning(LearnedOrder(right_logits))}, 0.302),
        ({"unmasking_count": ConfidenceThreshold(0.9)}, 0.538),
        ({"unmasking_count": ConfidenceThreshold(0.9), "unmasking_order": EntropyOrder()}, 0.010),
    ],
)
def test_orders_by_sampled_values_are_not_exact(options, expected) -> None:
    """The table of docs/concepts/discrete.md, within 0.015, which chance exceeds with probability below 4e-11."""
    assert abs(variation(LENGTH, **options) - expected) < 0.015


def test_all_tokens_at_once_are_independent() -> None:
    """Threshold 0 and an infinite entropy bound sample from the product of the marginals."""
    for count in (ConfidenceThreshold(0.0), EntropyBound(math.inf)):
        assert abs(variation(LENGTH, unmasking_count=count) - 0.558) < 0.03
    marginals = [torch.tensor([_marginal(i, k) for k in range(3)]) for i in range(LENGTH)]
    product = torch.cartesian_prod(*marginals).prod(1).double()
    assert abs(0.5 * (product - PROBS).abs().sum().item() - 0.558) < 0.03


def _marginal(position: int, token: int) -> float:
    return PROBS.view(3, 3, 3, 3).movedim(position, 0)[token].sum().item()


@pytest.mark.parametrize("probability", [CappedRemasking(0.02), RescaledRemasking(0.1), ConfidenceRemasking()])
def test_remasking_correctors_converge_with_the_steps(probability) -> None:
    few, many = (variation(steps, corrector=RemaskingCorrector(probability)) for steps in (4, 64))
    assert few > 0.14
    assert many < 0.03
