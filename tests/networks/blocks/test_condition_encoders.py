"""Encoders of conditions: values are told apart, missing ones have their own vector, and units do not matter."""

import numpy as np
import pytest
import torch

from feller.core.rng import Rng
from feller.data.conditions.numbers import NumberCondition
from feller.data.conditions.recognition import fit_condition
from feller.networks.blocks.condition_encoders import build_encoder
from feller.networks.mlp import MLP
from feller.networks.network_config import seeded_init

COLUMNS = {
    "number": np.array([1.0, 2.0, np.nan, 4.0]),
    "category": ["a", "b", "", "c"],
    "caption": ["a car", "a bike", "", "car"],
    "set": ["a|b", "b", "", "c"],
    "vector": np.array([[1.0, 2.0], [3.0, 4.0], [np.nan, np.nan], [5.0, 7.0]]),
}


@pytest.mark.parametrize(("name", "column"), COLUMNS.items(), ids=COLUMNS)
def test_values_have_distinct_embeddings(name: str, column: object) -> None:
    condition = fit_condition(name, column)
    with seeded_init(Rng(0)):
        encoder = build_encoder(condition, 8)
    vectors = encoder(condition.encode(name, column))
    assert vectors.shape == (4, 8)
    assert torch.cdist(vectors, vectors)[~torch.eye(4, dtype=torch.bool)].min() > 1e-3
    torch.testing.assert_close(encoder(condition.null_values(1))[0], vectors[2])


def test_null_gets_gradients_and_no_value_does_with_it() -> None:
    condition = fit_condition("c", COLUMNS["number"])
    encoder = build_encoder(condition, 8)
    encoder(condition.null_values(3)).sum().backward()
    assert encoder.null.grad is not None
    assert all(weight.grad is None or not weight.grad.any() for weight in (encoder.fc1.weight, encoder.fc2.weight))


def test_unit_of_a_number_does_not_matter() -> None:
    """Energies of -40,000 that differ in the second decimal place are as good as numbers of order one."""
    with seeded_init(Rng(0)):
        encoder = build_encoder(NumberCondition(0.0, 1.0, -1.0, 1.0), 8)
    with seeded_init(Rng(0)):
        shifted = build_encoder(NumberCondition(-40_000.0, 0.01, -40_001.0, -39_999.0), 8)
    values = torch.linspace(-1, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(shifted(values * 0.01 - 40_000), encoder(values), rtol=0, atol=1e-5)


def test_network_lists_null_values() -> None:
    conditions = {"x": fit_condition("x", COLUMNS["number"]), "label": 3}
    network = MLP(width=16, depth=1).build((2,), conditions, Rng(0))
    assert network.null_values["label"] == 3
    assert np.isnan(network.null_values["x"])


def test_padding_of_texts_does_not_matter_and_order_does() -> None:
    """The same text in an encoder with longer padding has the same vector; swapped words have another one."""
    condition = fit_condition("caption", ["red on blue", "blue on red", "red"])
    with seeded_init(Rng(0)):
        encoder = build_encoder(condition, 8)
    tokens = condition.encode("caption", ["red", "red on blue", "blue on red"])
    vectors = encoder(tokens)
    assert torch.cdist(vectors[1:2], vectors[2:]).item() > 1e-3
    encoder.tokens.weight.data[condition.null] = 1e3
    torch.testing.assert_close(encoder(tokens)[0], vectors[0])


def test_null_texts_have_finite_gradients() -> None:
    condition = fit_condition("caption", ["red", "blue", ""])
    encoder = build_encoder(condition, 8)
    encoder(condition.encode("caption", ["red", ""])).square().sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in encoder.parameters())
