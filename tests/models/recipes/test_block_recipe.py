"""The recipe of block diffusion on texts that end, with labels."""

from dataclasses import replace

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import batch_loader
from feller.data.loading.raw import RawTexts, object_array
from feller.data.modality import Dataset
from feller.data.text.dataset import text_dataset
from feller.models.families.block_diffusion_model import BlockDiffusionModel
from feller.models.families.model_family import family_for
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.registry import RECIPES
from feller.models.spec import ModelSpec, class_frequencies
from feller.networks import BlockAttention
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train

LINES = ["ab", "abab", "ababab"] * 20


@pytest.fixture(scope="module")
def documents() -> Dataset:
    return text_dataset(RawTexts(object_array(LINES), documents=True))


def fitted(data: Dataset, block_size: int, steps: int) -> Model:
    recipe = RECIPES["text-blocks"](data, "tiny")
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    architecture = replace(recipe.architecture, attention=BlockAttention(block_size))
    family = family_for(recipe.objective)
    assert family == BlockDiffusionModel()
    spec = ModelSpec(
        data.modality, recipe.objective.space, family, architecture, class_frequencies(data), recipe.sampling
    )
    training = replace(recipe.train, minutes=None, steps=steps, batch_size=16, warmup=4)
    state = make_train_state(spec.build(Rng(0)), training)
    for _ in train(state, recipe.objective, batch_loader(data, 16, Rng(0)), training, rng=Rng(0), engine=get_engine()):
        pass
    return Model.from_spec(spec, state.network)


@pytest.mark.parametrize("block_size", [2, 3])
def test_recipe_learns_texts_and_their_lengths(block_size: int, documents: Dataset) -> None:
    """After 300 steps most samples are texts of the data, all three of them, and the bound is near log 3 = 1.1."""
    model = fitted(documents, block_size, 300)
    texts = documents.modality.texts(model.sample_dataset(200).values)
    counts = [texts.count(line) for line in LINES[:3]]
    assert sum(counts) > 130
    assert min(counts) > 10
    values = documents.modality.pad([documents.modality.vocabulary.encode(text) for text in LINES[:3]])
    bounds = model.nll(Dataset(values, {}, documents.modality, ()), return_std_err=True)
    assert (bounds.nats < 2).all()
    assert (bounds.nats + 4 * bounds.std_err > 0.5).all()


def test_a_block_is_at_most_as_long_as_a_text(documents: Dataset) -> None:
    assert RECIPES["text-blocks"](documents, "tiny").architecture.attention.size == documents.modality.length
    with pytest.raises(UsageError) as error:
        fitted(documents, documents.modality.length + 1, 1)
    assert error.value.argument == "block_size"


def test_texts_of_other_lengths(documents: Dataset) -> None:
    """A model generates texts of any length; its number of evaluations grows with the length."""
    model = fitted(documents, 2, 1)
    trained = documents.modality.length
    for length in (1, trained, 4 * trained):
        resized = model.with_text_length(length)
        assert resized.spec.sampling.nfe == -(-model.spec.sampling.nfe * length // trained)
        samples = resized.sample_dataset(3)
        assert samples.values.shape == (3, length)
    assert torch.equal(model.with_text_length(trained).sample_dataset(3).values, model.sample_dataset(3).values)
    with pytest.raises(UsageError) as error:
        model.with_text_length(0)
    assert error.value.argument == "length"


def test_models_of_insertions_have_no_other_length(documents: Dataset) -> None:
    recipe = RECIPES["text-edits"](documents, "tiny")
    spec = ModelSpec(
        documents.modality,
        recipe.objective.space,
        family_for(recipe.objective),
        recipe.architecture,
        class_frequencies(documents),
        recipe.sampling,
    )
    with pytest.raises(UsageError) as error:
        Model.from_spec(spec, spec.build(Rng(0))).with_text_length(3)
    assert error.value.argument == "length"


def test_exported_networks_are_refused(documents: Dataset) -> None:
    family = BlockDiffusionModel()
    assert family.why_no_export
    with pytest.raises(UsageError):
        family.sampling_steps(documents.modality.space())
    assert torch.equal(family.export_output(torch.ones(1), torch.zeros(1), torch.zeros(1)), torch.ones(1))
