"""Training by a recipe, and files of the larger data sets."""

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
    after: Callable[[TrainState], None] = lambda train_state: None,
    *,
    before: Callable[[TrainState], None] = lambda train_state: None,
    feed: BatchFn | None = None,
    gradient: Gradient | None = None,
) -> Model:
    """Return a model trained by a recipe, with EMA weights.

    Args:
        recipe: Recipe.
        data: Training data.
        steps: Training steps; None for the minutes of the recipe.
        seed: Random seed.
        after: Callback after each step.
        before: Callback before the first step.
        feed: Batch of each step; batches of the data by default.
        gradient: Gradient of the losses; that of the mean by default.
    """
    data = data if recipe.modality is None else data.with_modality(recipe.modality)
    objective, training = recipe.objective.build(TrainingContext()), replace(recipe.train, steps=steps)
    spec = recipe.model_spec(data)
    train_state = make_train_state(spec.build(Rng(seed)), training)
    before(train_state)
    feed = feed or batch_loader(data, training.batch_size, Rng(seed))
    for _ in train(train_state, objective, feed, training, rng=Rng(seed), engine=get_engine(), gradient=gradient):
        after(train_state)
    train_state.ema.copy_to(train_state.network)
    return Model.from_spec(spec, train_state.network.eval())


def file_of(folder: pathlib.Path | None, *parts: str) -> pathlib.Path | None:
    """Return the path of a file of the larger data, or None."""
    path = None if folder is None else folder.joinpath(*parts)
    return path if path is not None and path.is_file() else None
