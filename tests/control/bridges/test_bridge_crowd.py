"""Populations that are known by members, who may count more or less than others."""

import pytest
import torch

from feller.control.bridges.population import Crowd
from feller.control.bridges.unbalanced_weights import growth
from feller.core.errors import UsageError
from feller.core.rng import Draws


def test_members_are_drawn_as_often_as_each_other() -> None:
    crowd = Crowd(torch.arange(7.0)[:, None])
    drawn = crowd(23, Draws(0))[:, 0].long()
    counts = drawn.bincount(minlength=7)
    assert counts.max() - counts.min() <= 1
    assert (crowd(23, Draws(0)) == crowd(23, Draws(0))).all()
    assert (crowd(23, Draws(0)) != crowd(23, Draws(1))).any()


def test_weights_are_frequencies() -> None:
    """4,000 draws: within 5 deviations."""
    weights = torch.tensor([0.1, 0.2, 0.7])
    drawn = Crowd(torch.arange(3.0)[:, None], weights).choose(4000, Draws(0))
    torch.testing.assert_close(drawn.bincount() / 4000, weights, atol=5 * (0.25 / 4000) ** 0.5, rtol=0)


def test_growth_finds_who_has_descendants() -> None:
    """Two groups of 50; the first becomes 90 of 100, the second 10: members of the first count more."""
    g = torch.Generator().manual_seed(0)
    left, right = torch.randn(50, 2, generator=g), torch.randn(50, 2, generator=g) + 10
    later = torch.cat([torch.randn(90, 2, generator=g), torch.randn(10, 2, generator=g) + 10])
    crowd, after = growth(torch.cat([left, right]), later, 0.5)
    share = crowd.weights[:50].sum().item()
    assert 0.7 < share < 0.95
    assert crowd.weights.sum().item() == pytest.approx(1)
    assert after.weights[90:].mean() > after.weights[:90].mean()  # they stand for more of the earlier ones
    even, _ = growth(torch.cat([left, right]), later, 1e6)
    torch.testing.assert_close(even.weights, torch.full_like(even.weights, 0.01), atol=2e-4, rtol=0)
    with pytest.raises(UsageError, match="above 0"):
        growth(left, later, 0.0)
