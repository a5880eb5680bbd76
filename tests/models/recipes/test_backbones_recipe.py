"""The recipe for backbones: it learns, and what it draws are chains of the lengths of the data."""

from dataclasses import replace

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import batch_loader
from feller.data.examples.loaders import protein_chains
from feller.data.loading.dataset_reader import read
from feller.data.proteins.backbones import Backbones
from feller.models.model import Model
from feller.models.recipes.proteins import backbones
from feller.models.recipes.recipe import Recipe
from feller.sampling.sampler_config import SamplerConfig
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train


def test_recipe_learns_and_draws() -> None:
    data = protein_chains("train")
    recipe = backbones(data, "tiny")
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    training = replace(recipe.train, minutes=None, steps=30, batch_size=8, warmup=5)
    about = replace(recipe, sampling=SamplerConfig("midpoint", 8)).model_spec(data)
    learner = make_train_state(about.build(Rng(0)), training)
    feed = batch_loader(data, training.batch_size, Rng(0))
    example = recipe.objective.draw(feed(99, slice(0, 8)), Rng(1), learner.network)
    before = recipe.objective.loss(learner.network, example).mean().item()
    for _ in train(learner, recipe.objective, feed, training, rng=Rng(0), engine=get_engine()):
        pass
    assert recipe.objective.loss(learner.network, example).mean().item() < 0.85 * before
    drawn = Model.from_spec(about, learner.network).sample_dataset(6)
    assert drawn.values.shape == (6, data.modality.longest, 4, 3)
    valid = data.modality.add_derived_conditions(drawn.given)["valid"]
    assert set(valid.sum(1).tolist()) <= set(data.given["valid"].sum(1).tolist())
    bonds = (drawn.values[:, 1:, 0] - drawn.values[:, :-1, 2]).norm(dim=2)[valid[:, 1:]]
    assert (bonds - 1.33).abs().max() < 0.3  # places of bonded atoms hardly vary, whatever was learned


def test_example_is_real_and_its_parts_differ() -> None:
    data, test = protein_chains("train"), protein_chains("test")
    assert isinstance(data.modality, Backbones)
    assert (len(data), len(test)) == (40, 10)
    assert test.modality == data.modality
    for part in (data, test):
        lengths = part.given["valid"].sum(1)
        assert lengths.min() >= 30
        assert lengths.max() <= 64
        bonds = (part.values[:, 1:, 0] - part.values[:, :-1, 2]).norm(dim=2)[part.given["valid"][:, 1:]]
        assert (bonds - 1.33).abs().max() < 0.2
    state = data.modality.encode(data.values)
    assert torch.isfinite(state["position"]).all()


def test_other_data_are_refused() -> None:
    with pytest.raises(UsageError, match="needs protein chains"):
        backbones(read("example:moons"), "small")
