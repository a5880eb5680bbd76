"""What tuning changed."""

import math

import pytest
import torch

from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.data.points.points import Points
from feller.evaluation.fine_tuning import classes, spread, tilt


def test_tilt_of_a_normal_law() -> None:
    """r = x of N(1, 0.25) at strength 2: the tilted mean is 1 + 2 * 0.25, and n / (1 + relative variance) count."""
    x = 1 + 0.5 * Draws(0).at("x").normal((200_000,), torch.float64)
    mean, share = tilt(x, 2.0, torch.zeros(len(x), dtype=torch.long))
    assert mean == pytest.approx(1.5, abs=0.01)
    assert share == pytest.approx(math.exp(-1.0), abs=0.02)  # E[w]^2 / E[w^2] = exp(-c^2 s^2)


def test_tilt_keeps_the_law_of_classes() -> None:
    """Weights are normalised within a class: the class with the larger reward does not take over."""
    reward = torch.tensor([0.0, 0.0, 10.0, 10.0], dtype=torch.float64)
    mean, share = tilt(reward, 5.0, torch.tensor([0, 0, 1, 1]))
    assert (mean, share) == (pytest.approx(5.0), pytest.approx(1.0))


def test_spread_is_within_classes() -> None:
    values = torch.tensor([[0.0, 0.0], [3.0, 4.0], [100.0, 0.0], [100.0, 2.0]])
    modality = Points(("x", "y"), (0.0, 0.0), (1.0, 1.0), classes=("a", "b"))
    data = Dataset(values, {"label": torch.tensor([0, 0, 1, 1])}, modality)
    assert classes(data).tolist() == [0, 0, 1, 1]
    assert spread(data) == pytest.approx((5 + 2) / 2)
    assert spread(data.subset(torch.tensor([0, 2]))) is None
