"""Short trainings of recipes."""

from dataclasses import replace

from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.modality import Dataset
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train


def trained(recipe: Recipe, data: Dataset, steps: int) -> Model:
    """Return the average of a recipe's network over some steps, seed 0."""
    data = data if recipe.modality is None else data.with_modality(recipe.modality)
    about, training, draws = recipe.model_spec(data), replace(recipe.train, steps=steps), Rng(0)
    learner = make_train_state(about.build(draws), training)
    feed = batch_loader(data, training.batch_size, draws)
    for _ in train(learner, recipe.objective, feed, training, rng=draws, engine=get_engine()):
        pass
    learner.ema.copy_to(learner.network)
    return Model.from_spec(about, learner.network.eval())
