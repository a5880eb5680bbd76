"""Token spaces and sources."""

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.spaces import CategoricalSource, MaskSource, Tokens, UniformSource
from tests.errors import refuses


def test_uniform_source() -> None:
    """50,000 tokens, chi square with 4 degrees: above 36 once in 4e6."""
    x = Tokens(5, (10,)).sample_base(5000, Rng(0).stream("source"))
    counts = x.flatten().bincount(minlength=5).double()
    assert x.shape == (5000, 10)
    assert ((counts - 1e4) ** 2 / 1e4).sum() < 36


def test_categorical_source() -> None:
    """50,000 tokens, chi square with 2 degrees: above 29 once in 2e6; a symbol without weight never comes."""
    law = CategoricalSource((1.0, 0.0, 3.0, 6.0))
    x = Tokens(4, (10,), law).sample_base(5000, Rng(0).stream("source"))
    counts, expected = x.flatten().bincount(minlength=4).double(), 5e4 * law.probabilities(4)
    assert counts[1] == 0
    assert ((counts - expected) ** 2 / expected)[[0, 2, 3]].sum() < 29


def test_mask_source() -> None:
    x = Tokens(4, (2, 3), MaskSource()).sample_base(5, Rng(0).stream("source"))
    assert x.shape == (5, 2, 3)
    assert x.unique().tolist() == [4]
    assert x.dtype == torch.long


def test_probabilities() -> None:
    assert UniformSource().probabilities(4).tolist() == [0.25] * 4
    assert MaskSource().probabilities(3).tolist() == [0, 0, 0, 1]
    assert CategoricalSource((1.0, 3.0)).probabilities(2).tolist() == [0.25, 0.75]
    with refuses(ValueError, found="2"):
        CategoricalSource((1.0, 3.0)).probabilities(3)
    assert [source.has_full_support for source in (UniformSource(), MaskSource(), CategoricalSource((1.0, 0.0)))] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("weights", [(1.0, -2.0), (1.0, float("nan")), (0.0, 0.0), (1e308, 1e308)])
def test_weights_of_a_source_are_finite_positive_and_have_a_sum(weights: tuple[float, ...]) -> None:
    with refuses(UsageError):
        CategoricalSource(weights)


def test_tokens_have_no_velocity() -> None:
    with refuses(TypeError):
        Tokens(3).step(torch.zeros(1, dtype=torch.long), torch.ones(1))
