"""Models of 8 x 8 images with 17 levels, and their sample metrics."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from feller.core.rng import Rng
from feller.models.model import Model
from feller.models.recipes.images import levels_mask, levels_metric, levels_uniform
from feller.paths import Network
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.training.objective import FlowMatching
from feller_papers.pictures import Pictures
from feller_papers.setting import fit_recipe

PATHS = {"mask": levels_mask, "uniform": levels_uniform, "metric": levels_metric}
PathTransform = Callable[[Any, Network], tuple[Any, Network]]
"""Transform of a path and its network before sampling."""


def identity(path: Any, network: Network) -> tuple[Any, Network]:
    """Return path and network unchanged."""
    return path, network


@functools.cache
def train_model(pictures: Pictures, path_name: str, seed: int) -> Model:
    """Return a class-conditional model of a path."""
    recipe = PATHS[path_name](pictures.data, "small")
    if not isinstance(recipe.objective, FlowMatching):
        raise TypeError(f"expected to match a path, got {type(recipe.objective).__name__}")
    recipe = replace(recipe, objective=replace(recipe.objective, cond_dropout=0.0))
    return fit_recipe(recipe, pictures.data, pictures.steps, seed)


@functools.cache
def sample_metrics(
    pictures: Pictures,
    path_name: str,
    seed: int,
    calls: int,
    *,
    transform: PathTransform = identity,
    sampling_seed: int = 0,
) -> tuple[float, float]:
    """Return the FD-cnn of samples and the fraction that the judge classifies as the given class."""
    model, rng = train_model(pictures, path_name, seed), Rng(sampling_seed).fold_in("samples")
    labels = pictures.data.given["label"]
    labels = labels[torch.arange(pictures.count) % len(labels)]
    path, network = transform(model.spec.path, model.network)
    x_0 = model.spec.space.sample_base(pictures.count, rng.stream("source"))
    with torch.no_grad():
        x_1 = simulate(path.process(network, {"label": labels}), x_0, linear_grid(calls), Euler(), rng)
    values = model.spec.modality.decode(x_1)
    return pictures.judge.distance(values), pictures.judge.accuracy(values, labels)
