"""Linear classifiers and their features."""

import json

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.networks.linear_classifier import LinearClassifier, OneHotFeatures, PixelFeatures
from feller.networks.network_config import NetworkConfig
from tests.errors import refuses

PIXELS = PixelFeatures((1, 2, 2), 1.5)
LEVELS = OneHotFeatures((3, 2, 4), 1)


def test_pixel_features_are_clipped_in_norm() -> None:
    dark, gray, white = (torch.full((1, 1, 2, 2), level) for level in (-1.0, 0.0, 1.0))
    seen = PIXELS.transform(torch.cat([dark, gray, white]))
    assert torch.equal(seen[:2], torch.tensor([[0.0] * 4, [0.5] * 4], dtype=torch.float64))
    assert seen[2].norm().item() == pytest.approx(1.5, rel=1e-12)
    assert seen[2].unique().numel() == 1
    some = PIXELS.transform(Rng(0).stream("x").normal((1000, 1, 2, 2)))
    assert some.norm(dim=1).max() <= PIXELS.max_norm * (1 + 1e-12)


def test_one_hot_features() -> None:
    seen = LEVELS.transform(torch.tensor([[2, 1, 0], [2, 0, 0], [0, 0, 3]]))
    assert seen.tolist() == [[0, 0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 1]]
    assert seen.norm(dim=1).tolist() == pytest.approx([LEVELS.max_norm] * 3)
    assert LEVELS.size == seen.shape[1]


def test_outputs_are_logits_of_two_classes() -> None:
    network = LinearClassifier(LEVELS).build((3,), {}, Rng(0))
    x, t = torch.tensor([[2, 1, 0], [0, 0, 3]]), torch.zeros(2)
    assert not network(x, t, {}).any()
    network.theta.data.copy_(torch.arange(8.0))
    assert network(x, t, {}).tolist() == [[0, 0 + 3 + 4], [0, 0 + 1 + 7]]


def test_records_round_trip(tmp_path) -> None:
    for features in (PIXELS, LEVELS):
        settings = LinearClassifier(features)
        assert from_dict(NetworkConfig, json.loads(json.dumps(to_dict(settings)))) == settings


def test_settings_out_of_range_are_refused() -> None:
    with refuses(UsageError):
        OneHotFeatures((3, 2), 2)
    with refuses(UsageError, argument="clip_norm", found="0"):
        PixelFeatures((1, 2, 2), 0.0)
    with refuses(UsageError, found="label"):
        LinearClassifier(PIXELS).build((1, 2, 2), {"label": 2}, Rng(0))
