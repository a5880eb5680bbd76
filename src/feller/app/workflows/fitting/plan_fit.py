"""Plan a fit: data, recipe, and what is known of the data."""

import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from feller.app.config import FitConfig
from feller.app.modalities.registration import find_recipe
from feller.app.options import config_of
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.fitting.auxiliary_networks import written_by
from feller.app.workflows.private.budget import seen_by
from feller.app.workflows.run_config import FitRecord, parts, record_of
from feller.core.errors import UsageError
from feller.core.run_folder import open_run
from feller.core.user_code import fingerprint as file_hash
from feller.data.loading.in_memory import DataSource
from feller.data.loading.targets import with_target
from feller.data.modality import Dataset
from feller.models.model import Model, load_model
from feller.models.recipes.recipe import Recipe
from feller.training.optimizer import TrainConfig

if TYPE_CHECKING:
    from feller.app.workflows.fitting.data_access import DataAccess


@dataclass(frozen=True, kw_only=True)
class RecipeRequest:
    """Which recipe is asked for, and what is changed of it."""

    name: str = "auto"
    size: str = "small"
    steps: int | None = None
    minutes: float | None = None
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe
    """Last word on the recipe."""

    def of(self, data: Dataset, older: Model | None) -> tuple[str, Recipe]:
        """Return the name of the recipe of some data, and the recipe.

        Raises:
            UsageError: If there is none, or it does not suit them.
        """
        name, recipe = find_recipe(self.name, data, self.size, older)
        return name, self.changed(recipe)

    def changed(self, recipe: Recipe) -> Recipe:
        """Return a recipe with what was asked of it."""
        return self.change(with_budget(recipe, steps=self.steps, minutes=self.minutes))


def check_duration(
    steps: int | None, minutes: float | None, fields: Sequence[str] = (), *, unit: str = "steps"
) -> None:
    """Check that a training is told its length once: in steps or rounds, in minutes, or as a field of the recipe.

    Args:
        steps: Number of steps, or of what `unit` names.
        minutes: Minutes of training.
        fields: Words of a command line that set fields of the recipe.
        unit: Name of the option of `steps`.

    Raises:
        UsageError: If two of them are there.
    """
    flags = [f"--{name}" for name, value in ((unit, steps), ("minutes", minutes)) if value is not None]
    words = (word.partition("=")[0] for word in fields)
    again = [flag for flag in words if flag in ("--train.steps", "--train.minutes")]
    if flags and len(flags) + len(again) > 1:
        found, argument = " and ".join([*flags, *again]), flags[0].removeprefix("--")
        raise UsageError(argument=argument, expected=f"--{unit} or --minutes", found=found, remedy="Choose one")


def with_budget(recipe: Recipe, *, steps: int | None = None, minutes: float | None = None) -> Recipe:
    """Return the recipe with another budget."""
    if steps is not None:
        return replace(recipe, train=replace(recipe.train, steps=steps, minutes=None))
    if minutes is not None:
        return replace(recipe, train=replace(recipe.train, steps=None, minutes=minutes))
    return recipe


@dataclass(frozen=True, eq=False)
class FitPlan:
    """A fit of which data, recipe and privacy are known."""

    asked: FitRecord
    dataset: Dataset
    recipe: Recipe
    older: Model | None
    """Where the weights start, and what a recipe of two stages learns from."""
    access: "DataAccess"
    """How the data may be learned from."""
    frequencies: dict[str, tuple[float, ...]] | None = None
    """Noisy shares of the classes of each condition; None where the exact ones may be told."""
    parts: dict[str, str] = field(default_factory=dict)
    """What a run that goes on knows of the networks that its data need: see `ModelSpec`."""

    @cached_property
    def split(self) -> tuple[Dataset, Dataset]:
        """The training data and those kept back."""
        return parts(self.asked, self.dataset)


def plan_fit(
    asked: FitRecord, access: "DataAccess", request: RecipeRequest, tell: Tell = SILENT, given: DataSource | None = None
) -> FitPlan:
    """Read data and choose a recipe.

    Args:
        asked: What a person says; the recipe may still be auto, and the size empty for the usual one.
        access: How the data may be learned from.
        request: Which recipe is asked for.
        tell: Hears what should be looked at before anything is spent.
        given: Data in memory, of which the file that is asked for is a copy.

    Raises:
        InputError: If the data are not what they must be.
        UsageError: If an argument is wrong.
    """
    start = open_run(asked.start_from) if asked.start_from else None
    older = load_model(start) if start else None
    dataset = access.read(asked, older.spec.modality if older else None, request, tell, given)
    if asked.target:
        dataset.require_in_memory("--target")
        dataset = with_target(dataset, asked.target, request.name)
    dataset = (
        written_by(dataset, asked.config.reading.tokenizer, request.size) if asked.config.reading.tokenizer else dataset
    )
    dataset = access.admit(asked, dataset, tell)
    name, recipe = request.of(access.shown(asked.provenance.recipe, dataset), older)
    check_target(recipe, name, () if dataset.target is None else asked.target, older)
    check_at_once(recipe, older, asked.watched)
    if recipe.objective.is_one_shot:
        dataset.require_in_memory(f"the recipe {name}")
    access.check_recipe(asked, name, recipe, start, dataset)
    if start is not None:
        asked = replace(asked, config=config_of(FitConfig, asked.config, start_from=str(start.path)))
    asked = asked.with_provenance(
        recipe=name,
        size=asked.provenance.size or (record_of(start).provenance.size if start else "small"),
        ancestors=seen_by(start) if start else (),
        start_hash=file_hash(start.ema_weights) if start else "",
        held_out=recipe.held_out,
        shards={} if dataset.stream is None else dataset.stream.fingerprints,
        code=_code_hash(name, asked.modality),
    )
    asked = access.identify(asked, dataset, recipe)
    return access.plan(FitPlan(asked, dataset, recipe, older, access), request)


def _code_hash(recipe: str, modality: str | None) -> str:
    """Return the hash of the user's file with recipe and modality; empty where both are ours."""
    files = {place.rpartition(":")[0] for place in (recipe, modality or "") if ":" in place}
    if len(files) > 1:
        raise UsageError("one file of yours", " and ".join(sorted(files)), "Put both into one", argument="code")
    return "".join(file_hash(pathlib.Path(file)) for file in files)


def as_read(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Return data as later commands will read them: a table by the schema that the model has."""
    kind = recipe.modality
    return dataset.with_modality(kind) if kind is not None and kind.has_schema else dataset


def check_target(recipe: Recipe, name: str, target: tuple[str, ...], older: Model | None) -> None:
    """Refuse what a regressor or a tokeniser cannot be, or a recipe that would take no notice of a target."""
    tells = recipe.objective.family == "regressor"
    if target and not tells:
        raise UsageError(f"{name} tells no {target[0]}", remedy="Use regressor, or logistic-private", argument="recipe")
    if older is not None and (tells or older.family.prediction_target is not None):
        raise UsageError(
            "a regressor starts from fresh weights, and nothing starts from one",
            remedy="Leave it out",
            argument="start_from",
        )
    writes = recipe.objective.family == "autoencoder"
    if older is not None and writes != (older.family.name == "autoencoder"):
        raise UsageError(
            "a tokeniser starts from a tokeniser, and nothing else does", remedy="Leave it out", argument="start_from"
        )


def check_at_once(recipe: Recipe, older: Model | None, watched: int = 0) -> None:
    """Refuse what means something to training alone.

    Args:
        recipe: That was chosen.
        older: Model to start from.
        watched: Rows of which account is to be kept, step by step.
    """
    at_once = recipe.objective.is_one_shot
    if at_once and recipe.train != TrainConfig():
        raise UsageError(
            "this recipe looks at its rows once and takes no steps", remedy="Leave --steps, --minutes and --train.* out"
        )
    if at_once and watched:
        raise UsageError(
            "this recipe takes no steps to keep account of",
            remedy="Leave it out: `feller audit` tells what rows gave away",
            argument="audit",
        )
    if older is not None and (at_once or older.family.name == "graphical"):
        raise UsageError(
            "what is found at once starts from no model, and no training starts from it",
            remedy="Leave it out",
            argument="start_from",
        )
