"""Embedding of time and conditions."""

import math

import pytest
import torch

from feller.networks.blocks.conditioning import Conditioning, fourier_features, modulate, zero_init


def conditioning() -> Conditioning:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Conditioning({"size": 2, "label": 10}, 8).double()


def test_fourier_features() -> None:
    x = torch.tensor([[0.0, 0.3], [1.0, -2.5]], dtype=torch.float64)
    features = fourier_features(x, 3)
    assert features.shape == (2, 2, 6)
    for place in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        cycles = [x[place].item() * 2.0**k / 4 for k in range(3)]
        wanted = [f(2 * math.pi * c) for f in (math.sin, math.cos) for c in cycles]
        torch.testing.assert_close(features[place], torch.tensor(wanted, dtype=torch.float64))


def test_fourier_features_are_injective() -> None:
    """The slowest features alone are one-to-one on [0, 1]: no two of 1,001 times are nearer than neighbours are."""
    features = fourier_features(torch.linspace(0, 1, 1001, dtype=torch.float64), 1)
    distance = torch.cdist(features, features) + 10 * torch.eye(1001, dtype=torch.float64)
    assert distance.min() > 1.5e-3


def test_vector_of_time_and_conditions() -> None:
    module = conditioning()
    t = torch.tensor([0.2, 0.2, 0.7], dtype=torch.float64)
    given = {"label": torch.tensor([3, 10, 3]), "size": torch.tensor([1, 1, 2])}
    vector = module(t, given)
    assert vector.shape == (3, 8)
    assert module.names == ["label", "size"]
    assert [table.num_embeddings for table in module.embeddings] == [11, 3]
    label, size = module.embeddings
    inner = module.time(fourier_features(t, 9)) + label(given["label"]) + size(given["size"])
    silu = torch.nn.functional.silu
    torch.testing.assert_close(vector, silu(module.mix(silu(inner))))


def test_reserved_conditions_are_ignored() -> None:
    module = conditioning()
    t = torch.tensor([0.2], dtype=torch.float64)
    given = {"label": torch.tensor([3]), "size": torch.tensor([1])}
    more = given | {"valid": torch.ones(1, 5, dtype=torch.bool), "known": torch.zeros(1, 5, dtype=torch.bool)}
    assert torch.equal(module(t, given), module(t, more))


@pytest.mark.parametrize("names", [(), ("label",), ("label", "size", "colour"), ("label", "valid")])
def test_missing_and_unknown_conditions_are_refused(names: tuple[str, ...]) -> None:
    given = {name: torch.tensor([1]) for name in names}
    with pytest.raises(KeyError, match=r"label .*10.*size .*2"):
        conditioning()(torch.tensor([0.2], dtype=torch.float64), given)


def test_no_conditions() -> None:
    module = Conditioning({}, 4)
    assert module.null_values == {}
    assert module(torch.tensor([0.2]), {}).shape == (1, 4)
    with pytest.raises(KeyError, match="label"):
        module(torch.tensor([0.2]), {"label": torch.tensor([1])})


def test_modulate() -> None:
    x = torch.tensor([[1.0, 2.0]])
    assert torch.equal(modulate(x, torch.zeros(1, 2), torch.zeros(1, 2)), x)
    assert modulate(x, torch.tensor([[1.0, -1.0]]), torch.tensor([[0.5, 3.0]])).tolist() == [[2.5, 3.0]]


def test_zero_init() -> None:
    assert not zero_init(torch.nn.Linear(3, 2))(torch.ones(1, 3)).any()
