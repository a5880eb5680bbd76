"""Recipes of texts of any length."""

from dataclasses import replace

import pytest

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import batch_loader
from feller.data.loading.raw import RawTexts, object_array
from feller.data.modality import Dataset
from feller.data.text.dataset import text_dataset
from feller.models.families.model_family import SampleRequest, family_for
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.registry import RECIPES
from feller.models.spec import ModelSpec, class_frequencies
from feller.paths import KineticOptimalRates
from feller.sampling.sampler_config import SamplerConfig
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train

NAMES = ("text-edits", "text-insertions")
LINES = ["ab", "abab", "ababab"] * 20


@pytest.fixture(scope="module")
def documents() -> Dataset:
    return text_dataset(RawTexts(object_array(LINES), documents=True))


def fitted(name: str, data: Dataset, steps: int) -> Model:
    recipe = RECIPES[name](data, "tiny")
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    spec = ModelSpec(
        data.modality,
        recipe.objective.space,
        family_for(recipe.objective),
        recipe.architecture,
        class_frequencies(data),
        SamplerConfig("euler", 8),
    )
    training = replace(recipe.train, minutes=None, steps=steps, batch_size=16, warmup=4)
    state = make_train_state(spec.build(Rng(0)), training)
    feed = batch_loader(data, training.batch_size, Rng(0))
    for _ in train(state, recipe.objective, feed, training, rng=Rng(0), engine=get_engine()):
        pass
    return Model.from_spec(spec, state.network)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_learn_lengths_and_tokens(name: str, documents: Dataset) -> None:
    """After 300 steps many samples are texts of the data, and the bound is far below that of uniform tokens."""
    model = fitted(name, documents, 300)
    texts = documents.modality.texts(model.sample_dataset(60).values)
    assert sum(text in LINES for text in texts) > 15
    values = documents.modality.pad([documents.modality.vocabulary.encode(text) for text in ("ab", "ababab")])
    bounds = model.nll(Dataset(values, {}, documents.modality, ()), return_std_err=True)
    assert (bounds.nats < 3).all()  # log 3 = 1.1 for the exact model
    assert (bounds.nats + 4 * bounds.std_err > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_long_text_is_refused(name: str) -> None:
    stream = text_dataset(RawTexts(object_array([" ".join(LINES)]), documents=False), size=16)
    with pytest.raises(UsageError):
        RECIPES[name](stream, "tiny")


@pytest.mark.parametrize("sampling", [SamplerConfig("midpoint"), SamplerConfig("euler", rates=KineticOptimalRates())])
def test_samplers_of_other_models_are_refused(sampling: SamplerConfig, documents: Dataset) -> None:
    recipe = RECIPES["text-edits"](documents, "tiny")
    request = SampleRequest(n=1, space=recipe.objective.space, sampling=sampling)
    with pytest.raises(UsageError):
        family_for(recipe.objective).check_request(request)
