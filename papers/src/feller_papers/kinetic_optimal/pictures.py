"""What the claims about pictures are tested with: networks for 8 x 8 pictures of 17 levels, and samples of them."""

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
Change = Callable[[Any, Network], tuple[Any, Network]]
"""What is done to a path of tokens and its network before they are used."""


def as_it_is(path: Any, network: Network) -> tuple[Any, Network]:
    """Return both."""
    return path, network


@functools.cache
def fitted(pictures: Pictures, kind: str, seed: int) -> Model:
    """Return a network that was trained on a path, and always told the class."""
    recipe = PATHS[kind](pictures.data, "small")
    if not isinstance(recipe.objective, FlowMatching):
        raise TypeError(f"expected to match a path, got {type(recipe.objective).__name__}")
    recipe = replace(recipe, objective=replace(recipe.objective, cond_dropout=0.0))
    return fit_recipe(recipe, pictures.data, pictures.steps, seed)


@functools.cache
def sampled(
    pictures: Pictures, kind: str, seed: int, calls: int, *, change: Change = as_it_is, draw: int = 0
) -> tuple[float, float]:
    """Return the FD-cnn of samples, and the share that the judge sees as the class that was asked for."""
    model, draws = fitted(pictures, kind, seed), Rng(draw).fold_in("samples")
    labels = pictures.data.given["label"]
    labels = labels[torch.arange(pictures.count) % len(labels)]
    path, network = change(model.spec.path, model.network)
    x_0 = model.spec.space.sample_base(pictures.count, draws.stream("source"))
    with torch.no_grad():
        x_1 = simulate(path.process(network, {"label": labels}), x_0, linear_grid(calls), Euler(), draws)
    values = model.spec.modality.decode(x_1)
    return pictures.judge.distance(values), pictures.judge.agrees(values, labels)
