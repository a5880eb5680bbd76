"""Models that nobody trained, whose answers are not zero all the same."""

import pathlib

import torch

from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors
from feller.core.serialization import to_dict, write_json
from feller.data.loading.dataset_reader import read
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.registry import RECIPES
from feller.models.spec import ModelSpec, save_spec
from tests.records import fit_record


def shaken(about: ModelSpec) -> Model:
    """Build a model whose weights are all a little off, so that no part of it is silent."""
    network = about.build(Rng(0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return Model.from_spec(about, network.eval())


def untrained(data: str, recipe: str) -> tuple[Model, Recipe]:
    """Return a model of an example as a tiny recipe makes it."""
    found = read(data)
    made = RECIPES[recipe](found.subset(torch.arange(min(200, len(found)))), "tiny")
    kind = made.modality or found.modality
    return shaken(made.model_spec(found.with_modality(kind))), made


def as_run(folder: pathlib.Path, model: Model, recipe: Recipe, data: str) -> Run:
    folder.mkdir(parents=True)
    run, asked = Run(folder), fit_record(data=data, recipe="auto", size="tiny", seed=0)
    save_spec(run, model.spec)
    run.write_record(run.recipe, {**asked.content, "recipe": to_dict(recipe)})
    save_tensors(run.ema_weights, model.network.state_dict())
    save_tensors(run.weights, model.network.state_dict())
    write_json(run.progress, {"step": 1, "seconds": 1.0})
    return run
