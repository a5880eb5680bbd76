"""What reproductions share: training by a recipe, and files of the larger data."""

import pathlib
from collections.abc import Callable
from dataclasses import replace

from feller.core.gradient import Gradient
from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.modality import Dataset
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.training.engine import get_engine
from feller.training.loop import BatchFn, TrainState, make_train_state, train
from feller.training.objective import TrainingContext


def fit_recipe(
    recipe: Recipe,
    data: Dataset,
    steps: int | None,
    seed: int,
    after: Callable[[TrainState], None] = lambda learner: None,
    *,
    before: Callable[[TrainState], None] = lambda learner: None,
    feed: BatchFn | None = None,
    gradient: Gradient | None = None,
) -> Model:
    """Train a recipe's network on data; its weights are the average.

    Args:
        recipe: What to train.
        data: On what.
        steps: How long; None for the minutes of the recipe.
        seed: Of all randomness.
        after: Called after each step.
        before: Called before the first.
        feed: Gives each step its examples; by default the data in batches.
        gradient: How losses become gradients; the mean by default.
    """
    data = data if recipe.modality is None else data.with_modality(recipe.modality)
    objective, training = recipe.objective.build(TrainingContext()), replace(recipe.train, steps=steps)
    about = recipe.model_spec(data)
    learner = make_train_state(about.build(Rng(seed)), training)
    before(learner)
    feed = feed or batch_loader(data, training.batch_size, Rng(seed))
    for _ in train(learner, objective, feed, training, rng=Rng(seed), engine=get_engine(), gradient=gradient):
        after(learner)
    learner.ema.copy_to(learner.network)
    return Model.from_spec(about, learner.network.eval())


def file_of(folder: pathlib.Path | None, *parts: str) -> pathlib.Path | None:
    """Return a file of the larger data, if it is there."""
    place = None if folder is None else folder.joinpath(*parts)
    return place if place is not None and place.is_file() else None
