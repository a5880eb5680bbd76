"""Recipes by name, and the recipe that suits each modality."""

import ast
import pathlib
from collections.abc import Callable

from feller.core.errors import InputError, UsageError
from feller.core.serialization import nearest
from feller.core.user_code import line_of, load_function
from feller.data.crystals.modality import Crystals
from feller.data.documents.modality import Documents
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.loading.raw import Found, FoundSounds
from feller.data.modality import Dataset, Modality
from feller.data.molecules.modality import Molecules
from feller.data.points.earth import Earth
from feller.data.points.manifold_points import Geometric
from feller.data.points.points import Points
from feller.data.points.torsions import Torsions
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.modality import Proteins
from feller.data.speech.modality import Speech
from feller.data.tables.mixed import Mixed
from feller.data.tables.modality import Table
from feller.data.text.modality import Text
from feller.models.model import Model
from feller.models.recipes.atoms import crystals, molecules
from feller.models.recipes.images import (
    image_tokenizer,
    image_tokenizer_vq,
    images,
    labelled,
    levels_mask,
    levels_metric,
    levels_uniform,
)
from feller.models.recipes.interleaved import interleaved
from feller.models.recipes.points import manifold, points
from feller.models.recipes.proteins import backbones, proteins
from feller.models.recipes.recipe import SIZES, Recipe
from feller.models.recipes.regressor import regressor
from feller.models.recipes.speech import speech, vocoder
from feller.models.recipes.stages import distil, onwards, reflow
from feller.models.recipes.tables import logistic_private, table, table_flow, table_marginals
from feller.models.recipes.text import text, text_autoregressive, text_uniform

RECIPES: dict[str, Callable[[Dataset, str], Recipe]] = {
    "backbones": backbones,
    "crystals": crystals,
    "image-label": labelled,
    "image-tokenizer": image_tokenizer,
    "image-tokenizer-vq": image_tokenizer_vq,
    "images": images,
    "interleaved": interleaved,
    "levels-mask": levels_mask,
    "levels-metric": levels_metric,
    "levels-uniform": levels_uniform,
    "logistic-private": logistic_private,
    "manifold": manifold,
    "molecules": molecules,
    "points": points,
    "proteins": proteins,
    "regressor": regressor,
    "speech": speech,
    "table": table,
    "table-flow": table_flow,
    "table-marginals": table_marginals,
    "text": text,
    "text-autoregressive": text_autoregressive,
    "text-uniform": text_uniform,
    "vocoder": vocoder,
}
READS: dict[str, type[Found]] = {"vocoder": FoundSounds}
"""What files are taken for by recipes that see less in them than there may be."""
SECOND_STAGES: dict[str, Callable[[Recipe, Model], Recipe]] = {"reflow": reflow, "distil": distil}
"""What makes a recipe that learns from an older model out of the one for the data."""
_SUITS: dict[type[Modality], str] = {
    Backbones: "backbones",
    Crystals: "crystals",
    Documents: "interleaved",
    Earth: "manifold",
    Geometric: "manifold",
    Images: "images",
    Labelled: "image-label",
    Mixed: "table-flow",
    Molecules: "molecules",
    Points: "points",
    Proteins: "proteins",
    Speech: "speech",
    Table: "table",
    Text: "text",
    Torsions: "manifold",
}
"""The recipe that `auto` chooses for each kind of data; where something is to be told of them, it is `regressor`."""


def _functions(file: str) -> str:
    """Say which functions a file defines, without running it."""
    try:
        tree = ast.parse(pathlib.Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    names = [part.name for part in tree.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]
    return f"there are: {', '.join(names)}" if names else "it defines none"


def find_recipe(name: str, data: Dataset, size: str, older: Model | None = None) -> tuple[str, Recipe]:
    """Return a recipe and its name: `auto` chooses by the kind of data, `file.py:function` is the user's own.

    Raises:
        UsageError: If the name or the size is unknown, or the recipe needs an older model and there is none.
        InputError: If a file of the user's own cannot be read, or its function is no recipe.
    """
    if size not in SIZES:
        raise UsageError(f"no size is called {size!r}: {nearest(size, list(SIZES))}")
    if name.endswith(".py"):
        raise UsageError(f"which function of {name}? say {name}:FUNCTION; {_functions(name)}")
    if ":" in name:
        function = load_function(name, ("data", "size"))
        recipe = function(data, size)
        if not isinstance(recipe, Recipe):
            line = line_of(function)
            raise InputError(
                f"{name}{f' ({line})' if line else ''} must return a Recipe, it returned {type(recipe).__name__}"
            )
        return name, recipe
    usual = "regressor" if data.target is not None else _SUITS.get(type(data.modality), "")
    if not usual and name in ("auto", *SECOND_STAGES):
        raise UsageError(f"no recipe of ours suits {data.modality.called}; name your own: --recipe file.py:function")
    if name in SECOND_STAGES:
        if older is None:
            raise UsageError(f"the recipe {name} learns from an older model: name its run with --start-from")
        return name, SECOND_STAGES[name](RECIPES[usual](data, size), older)
    name = usual if name == "auto" else name
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}: {nearest(name, [*RECIPES, *SECOND_STAGES, 'auto'])}")
    recipe = RECIPES[name](data, size)
    return name, recipe if older is None else onwards(recipe, older)
