"""Functions that return one frozen recipe, by name."""

from collections.abc import Callable

from feller.code import load_function
from feller.data.images import Images
from feller.data.modality import Dataset
from feller.errors import UsageError
from feller.recipes.images import images
from feller.recipes.points import points
from feller.recipes.recipe import SIZES, Recipe
from feller.record import nearest

__all__ = ["RECIPES", "Recipe", "find_recipe"]

RECIPES: dict[str, Callable[[Dataset, str], Recipe]] = {"images": images, "points": points}


def find_recipe(name: str, data: Dataset, size: str) -> tuple[str, Recipe]:
    """Return a recipe and its name: `auto` chooses by the kind of data, `file.py:function` is the user's own.

    Raises:
        UsageError: If the name or the size is unknown.
    """
    if size not in SIZES:
        raise UsageError(f"no size is called {size!r}: {nearest(size, list(SIZES))}")
    if name == "auto":
        name = "images" if isinstance(data.modality, Images) else "points"
    if ":" in name:
        recipe = load_function(name)(data, size)
        if not isinstance(recipe, Recipe):
            raise UsageError(f"{name} must return a Recipe, it returned {type(recipe).__name__}")
        return name, recipe
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}: {nearest(name, [*RECIPES, 'auto'])}")
    return name, RECIPES[name](data, size)
