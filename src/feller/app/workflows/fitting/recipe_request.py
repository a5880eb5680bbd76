"""Request for a recipe: its name, size, training budget and modifications."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from feller.app.modalities.registration import find_recipe
from feller.core.errors import UsageError
from feller.data.modality import Dataset
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class RecipeRequest:
    """Request for a recipe: its name, network size, training budget and modifications."""

    name: str = "auto"
    size: str = "small"
    steps: int | None = None
    minutes: float | None = None
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe
    """Function that modifies the recipe after all other options have been applied."""

    def resolve(self, data: Dataset, start_model: Model | None) -> tuple[str, Recipe]:
        """Return the name of the recipe, and the recipe itself with the requested budget and modifications.

        The recipe `auto` is chosen by the data.

        Raises:
            UsageError: If the recipe is unknown or does not fit the data.
        """
        name, recipe = find_recipe(self.name, data, self.size, start_model)
        return name, self.apply(recipe)

    def apply(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the requested training budget and modifications."""
        return self.change(with_budget(recipe, steps=self.steps, minutes=self.minutes))


def with_budget(recipe: Recipe, *, steps: int | None = None, minutes: float | None = None) -> Recipe:
    """Return a recipe with the training budget replaced by a number of steps, or by a training time in minutes.

    If both are None, the recipe is returned unchanged.
    """
    if steps is not None:
        return replace(recipe, train=replace(recipe.train, steps=steps, minutes=None))
    if minutes is not None:
        return replace(recipe, train=replace(recipe.train, steps=None, minutes=minutes))
    return recipe


def check_duration(
    steps: int | None, minutes: float | None, fields: Sequence[str] = (), *, unit: str = "steps"
) -> None:
    """Raise an error if more than one option sets the training length: a number of steps, minutes, or a recipe field.

    Raises:
        UsageError: If more than one option sets the training length.
    """
    flags = [f"--{name}" for name, value in ((unit, steps), ("minutes", minutes)) if value is not None]
    field_names = (text.partition("=")[0] for text in fields)
    field_flags = [flag for flag in field_names if flag in ("--train.steps", "--train.minutes")]
    if flags and len(flags) + len(field_flags) > 1:
        given, argument = " and ".join([*flags, *field_flags]), flags[0].removeprefix("--")
        raise UsageError(argument=argument, expected=f"--{unit} or --minutes", found=given, remedy="Choose one")


def with_recipe_schema(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Return a dataset with the table schema of the recipe, if the recipe determines a schema.

    Later commands will read the table with this schema. Other datasets are returned unchanged.
    """
    modality = recipe.modality
    return dataset.with_modality(modality) if modality is not None and modality.has_schema else dataset
