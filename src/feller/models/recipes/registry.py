"""Registry of recipes by name."""

import ast
import pathlib
from collections.abc import Callable

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import RawArrays, RawExamples, RawWaveforms
from feller.data.modality import Dataset
from feller.models.model import Model
from feller.models.recipes.arrays import arrays, arrays_transformer
from feller.models.recipes.crystals_and_molecules import crystals, molecules
from feller.models.recipes.images import (
    image_label,
    image_tokenizer,
    image_tokenizer_vq,
    images,
    levels_mask,
    levels_metric,
    levels_uniform,
)
from feller.models.recipes.interleaved import interleaved
from feller.models.recipes.latent_images import image_autoencoder, latent_images, latent_images_dit
from feller.models.recipes.photographs import images_dit, photographs
from feller.models.recipes.points import manifold, points
from feller.models.recipes.prediction import regressor
from feller.models.recipes.proteins import backbones, proteins
from feller.models.recipes.recipe import SIZES, USUAL_SIZES, Recipe
from feller.models.recipes.speech import speech, vocoder
from feller.models.recipes.stages import consistency, distill, flow_map, lagrangian, mean_flow, reflow
from feller.models.recipes.tables import (
    logistic_private,
    table,
    table_flow,
    table_histories,
    table_language_model,
    table_marginals,
)
from feller.models.recipes.text import text, text_autoregressive, text_blocks, text_edits, text_insertions, text_uniform

RECIPES: dict[str, Callable[[Dataset, str], Recipe]] = {
    "arrays": arrays,
    "arrays-transformer": arrays_transformer,
    "backbones": backbones,
    "crystals": crystals,
    "image-autoencoder": image_autoencoder,
    "image-label": image_label,
    "image-tokenizer": image_tokenizer,
    "image-tokenizer-vq": image_tokenizer_vq,
    "images": images,
    "images-dit": images_dit,
    "interleaved": interleaved,
    "latent-images": latent_images,
    "latent-images-dit": latent_images_dit,
    "levels-mask": levels_mask,
    "levels-metric": levels_metric,
    "levels-uniform": levels_uniform,
    "logistic-private": logistic_private,
    "manifold": manifold,
    "molecules": molecules,
    "photographs": photographs,
    "points": points,
    "proteins": proteins,
    "regressor": regressor,
    "speech": speech,
    "table": table,
    "table-flow": table_flow,
    "table-histories": table_histories,
    "table-marginals": table_marginals,
    "text": text,
    "text-autoregressive": text_autoregressive,
    "text-blocks": text_blocks,
    "text-edits": text_edits,
    "text-insertions": text_insertions,
    "text-uniform": text_uniform,
    "vocoder": vocoder,
}
STARTED_RECIPES: dict[str, Callable[[Dataset, str, Model], Recipe]] = {"table-language-model": table_language_model}
"""Mapping from a recipe to a function (data, size, older model), for recipes that need a model with whose weights
training starts, of other data."""
SCALABLE_RECIPES = (
    *("images", "images-dit", "photographs", "latent-images", "latent-images-dit", "image-autoencoder"),
)
"""Recipes that have all sizes."""
RAW_DATA_TYPES: dict[str, type[RawExamples]] = {
    "arrays": RawArrays,
    "arrays-transformer": RawArrays,
    "vocoder": RawWaveforms,
}
"""Mapping from a recipe to the type of raw data that it reads, for recipes that need less than the default type
provides: the vocoder, for example, needs no transcripts; or for ambiguous data, such as signals [n, steps]."""
SECOND_STAGES: dict[str, Callable[[Recipe, Model], Recipe]] = {"reflow": reflow, "distil": distill}
"""Mapping from the name of a second training stage to a function that adapts a recipe to learn from an older model."""
FLOW_MAPS: dict[str, Callable[[Recipe, Model | None], Recipe]] = {
    "flow-map": flow_map,
    "mean-flow": mean_flow,
    "lagrangian": lagrangian,
    "consistency": consistency,
}
"""Mapping from the name of a kind of flow map to a function that adapts a recipe to learn it, from an older model or
from data alone."""


def list_functions(file: str) -> str:
    """Return a text that lists the public functions of a Python file, for error messages; the file is not executed."""
    try:
        tree = ast.parse(pathlib.Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read the file: {error}", file=file) from error
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return f"available: {', '.join(names)}" if names else "it defines no functions"


def check_size(name: str, size: str) -> None:
    """Raise a UsageError if a recipe does not have a size.

    Recipes of the user, `file.py:function`, are called with any size.
    """
    if size not in SIZES:
        raise UsageError.unknown_name("size", size, SIZES, in_order=True)
    if name in (*RECIPES, *STARTED_RECIPES) and name not in SCALABLE_RECIPES and size not in USUAL_SIZES:
        raise UsageError(
            argument="size",
            expected=f"one of {', '.join(USUAL_SIZES)} for the recipe {name}",
            found=repr(size),
            remedy=f"Recipes with all sizes: {', '.join(SCALABLE_RECIPES)}",
        )
