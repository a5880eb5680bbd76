"""Recipes for text."""

from dataclasses import replace

import pytest
import torch

from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import batch_loader
from feller.data.loading.raw import RawTexts, object_array
from feller.data.modality import Dataset
from feller.data.text.dataset import text_dataset
from feller.models.families.model_family import family_for
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.registry import RECIPES
from feller.models.spec import ModelSpec, class_frequencies
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train

NAMES = ("text", "text-uniform", "text-autoregressive")
LINES = ["the sea", "a ship at sea", "the shore", "a gull", "the sun", "a sail"] * 10


@pytest.fixture(scope="module")
def documents() -> Dataset:
    return text_dataset(RawTexts(object_array(LINES), documents=True))


@pytest.fixture(scope="module")
def stream() -> Dataset:
    return text_dataset(RawTexts(object_array([" ".join(LINES)]), documents=False), size=16)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["documents", "stream"])
def test_text_recipes_learn(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    """In 16 steps the loss on other examples falls by a tenth at least; drawn are symbols, and texts of our lengths."""
    data = request.getfixturevalue(kind)
    recipe = RECIPES[name](data, "tiny")
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    objective = recipe.objective
    assert objective.space.vocab_size == data.modality.vocab_size
    about = ModelSpec(
        data.modality,
        objective.space,
        family_for(objective),
        recipe.architecture,
        class_frequencies(data),
        SamplerConfig("euler", 4),
    )
    training = replace(recipe.train, minutes=None, steps=16, batch_size=16, warmup=4)
    learner = make_train_state(about.build(Rng(0)), training)
    feed = batch_loader(data, training.batch_size, Rng(0))
    example = objective.draw(feed(99, slice(0, 16)), Rng(1), learner.network)
    before = objective.loss(learner.network, example).mean().item()
    for _ in train(learner, objective, feed, training, rng=Rng(0), engine=get_engine()):
        pass
    assert objective.loss(learner.network, example).mean().item() < 0.9 * before
    drawn = Model.from_spec(about, learner.network).sample_dataset(4)
    assert drawn.values.shape == (4, data.modality.length)
    assert all(set(text) <= set(data.modality.vocabulary.symbols) for text in drawn.modality.texts(drawn.values))


def test_inpaint_prob_depends_on_the_source(stream: Dataset) -> None:
    for name in ("text", "text-uniform"):
        objective = RECIPES[name](stream, "tiny").objective
        assert (objective.inpaint_prob == 0) == isinstance(objective.path.source, MaskSource)
        assert objective.path.source == objective.space.source


def test_text_recipe_starts_from_masks(stream: Dataset) -> None:
    recipe = RECIPES["text"](stream, "tiny")
    x_0 = recipe.objective.space.sample_base(2, Rng(0).stream("source"))
    assert torch.equal(x_0, torch.full((2, 16), stream.modality.vocab_size))
