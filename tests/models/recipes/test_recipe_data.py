"""Recipes refuse data of other modalities, in one line."""

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from feller.core.errors import UsageError
from feller.data.loading.dataset_reader import read
from feller.data.modality import Modality
from feller.models.recipes.points import manifold, points
from feller.models.recipes.registry import RECIPES
from feller.spaces import Tokens
from tests.errors import refuses

OTHER = (
    *("arrays", "backbones", "proteins", "crystals", "molecules", "image-label", "image-tokenizer-vq", "levels-mask"),
    *("table-flow", "text", "text-uniform", "text-autoregressive"),
)


@pytest.mark.parametrize(("recipe", "data"), [*((name, "moons") for name in OTHER), ("proteins", "backbones")])
def test_recipes_refuse_other_modalities(recipe: str, data: str) -> None:
    with refuses(UsageError):
        RECIPES[recipe](read(f"example:{data}"), "tiny")


def test_manifold_needs_a_manifold() -> None:
    words = Mock(spec=Modality, **{"space.return_value": Tokens(4, (3,))})
    with refuses(UsageError):
        manifold(replace(read("example:digits"), modality=words), "tiny")


@pytest.mark.parametrize(
    ("rows", "condition", "size", "width"),
    [(300, ["x"], "small", 64), (30_000, ["x"], "small", 128), (300, [], "small", 128), (300, ["x"], "base", 256)],
)
def test_conditional_models_of_few_rows_are_narrower(rows: int, condition: list[str], size: str, width: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, 1))
    data = {"samples": np.concatenate([x, -x], 1)} | ({"x": x} if condition else {})
    assert points(read(data, condition=condition), size).architecture.width == width
