"""Euclidean space."""

import torch

from feller.core.rng import Rng
from feller.spaces import Euclidean


def test_base_is_standard_normal() -> None:
    """60,000 numbers: mean and variance, false alarm 2 x 6e-7."""
    x = Euclidean((3, 2)).sample_base(10_000, Rng(0).stream("source"))
    assert x.shape == (10_000, 3, 2)
    assert abs(x.mean().item()) < 5 / 60_000**0.5
    assert abs(x.var().item() - 1) < 5 * (2 / 60_000) ** 0.5


def test_steps_add() -> None:
    x, v = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])
    assert Euclidean().step(x, v).tolist() == [1.5, 1.0]
    assert Euclidean().integrate_step(x, v, 2.0).tolist() == [2.0, 0.0]
    assert x.tolist() == [1, 2]
