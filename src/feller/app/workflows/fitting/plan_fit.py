"""Plan a fit: data, recipe, and what is known of the data."""

import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from feller.app.config import FitConfig
from feller.app.modalities.registration import find_recipe
from feller.app.options import config_of
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.fitting.auxiliary_networks import with_tokenizer
from feller.app.workflows.private.budget import training_data_of
from feller.app.workflows.run_config import FitRecord, read_fit_record, train_test_split
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

    def resolve(self, data: Dataset, start_model: Model | None) -> tuple[str, Recipe]:
        """Return the name of the recipe of some data, and the recipe.

        Raises:
            UsageError: If there is none, or it does not suit them.
        """
        name, recipe = find_recipe(self.name, data, self.size, start_model)
        return name, self.apply(recipe)

    def apply(self, recipe: Recipe) -> Recipe:
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

    record: FitRecord
    dataset: Dataset
    recipe: Recipe
    start_model: Model | None
    """Where the weights start, and what a recipe of two stages learns from."""
    access: "DataAccess"
    """How the data may be learned from."""
    frequencies: dict[str, tuple[float, ...]] | None = None
    """Noisy shares of the classes of each condition; None where the exact ones may be told."""
    aux_networks: dict[str, str] = field(default_factory=dict)
    """What a run that goes on knows of the networks that its data need: see `ModelSpec`."""

    @cached_property
    def split(self) -> tuple[Dataset, Dataset]:
        """The training data and those kept back."""
        return train_test_split(self.record, self.dataset)


def plan_fit(
    record: FitRecord,
    access: "DataAccess",
    request: RecipeRequest,
    reporter: Reporter = SILENT,
    in_memory_data: DataSource | None = None,
) -> FitPlan:
    """Read data and choose a recipe.

    Args:
        record: What a person says; the recipe may still be auto, and the size empty for the usual one.
        access: How the data may be learned from.
        request: Which recipe is asked for.
        reporter: Hears what should be looked at before anything is spent.
        in_memory_data: Data in memory, of which the file that is asked for is a copy.

    Raises:
        InputError: If the data are not what they must be.
        UsageError: If an argument is wrong.
    """
    start = open_run(record.start_from) if record.start_from else None
    older = load_model(start) if start else None
    dataset = access.read(record, older.spec.modality if older else None, request, reporter, in_memory_data)
    if record.target:
        dataset.require_in_memory("--target")
        dataset = with_target(dataset, record.target, request.name)
    dataset = (
        with_tokenizer(dataset, record.config.data_loading.tokenizer, request.size)
        if record.config.data_loading.tokenizer
        else dataset
    )
    dataset = access.check_data(record, dataset, reporter)
    name, recipe = request.resolve(access.visible_to(record.provenance.recipe, dataset), older)
    check_target(recipe, name, () if dataset.target is None else record.target, older)
    check_closed_form(recipe, older, record.watched)
    if recipe.objective.is_one_shot:
        dataset.require_in_memory(f"the recipe {name}")
    access.check_recipe(record, name, recipe, start, dataset)
    if start is not None:
        record = replace(record, config=config_of(FitConfig, record.config, start_from=str(start.path)))
    record = record.with_provenance(
        recipe=name,
        size=record.provenance.size or (read_fit_record(start).provenance.size if start else "small"),
        ancestors=training_data_of(start) if start else (),
        start_hash=file_hash(start.ema_weights) if start else "",
        held_out=recipe.held_out,
        shards={} if dataset.stream is None else dataset.stream.fingerprints,
        code=_code_hash(name, record.modality),
    )
    record = access.add_fingerprint(record, dataset, recipe)
    return access.plan(FitPlan(record, dataset, recipe, older, access), request)


def _code_hash(recipe: str, modality: str | None) -> str:
    """Return the hash of the user's file with recipe and modality; empty where both are ours."""
    files = {place.rpartition(":")[0] for place in (recipe, modality or "") if ":" in place}
    if len(files) > 1:
        raise UsageError("one file of yours", " and ".join(sorted(files)), "Put both into one", argument="code")
    return "".join(file_hash(pathlib.Path(file)) for file in files)


def with_recipe_schema(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Return data as later commands will read them: a table by the schema that the model has."""
    kind = recipe.modality
    return dataset.with_modality(kind) if kind is not None and kind.has_schema else dataset


def check_target(recipe: Recipe, name: str, target: tuple[str, ...], start_model: Model | None) -> None:
    """Refuse what a regressor or a tokeniser cannot be, or a recipe that would take no notice of a target."""
    tells = recipe.objective.family == "regressor"
    if target and not tells:
        raise UsageError(f"{name} tells no {target[0]}", remedy="Use regressor, or logistic-private", argument="recipe")
    if start_model is not None and (tells or start_model.family.prediction_target is not None):
        raise UsageError(
            "a regressor starts from fresh weights, and nothing starts from one",
            remedy="Leave it out",
            argument="start_from",
        )
    writes = recipe.objective.family == "autoencoder"
    if start_model is not None and writes != (start_model.family.name == "autoencoder"):
        raise UsageError(
            "a tokeniser starts from a tokeniser, and nothing else does", remedy="Leave it out", argument="start_from"
        )


def check_closed_form(recipe: Recipe, start_model: Model | None, n_tracked_rows: int = 0) -> None:
    """Refuse what means something to training alone.

    Args:
        recipe: That was chosen.
        start_model: Model to start from.
        n_tracked_rows: Rows of which account is to be kept, step by step.
    """
    is_closed_form = recipe.objective.is_one_shot
    if is_closed_form and recipe.train != TrainConfig():
        raise UsageError(
            "this recipe looks at its rows once and takes no steps", remedy="Leave --steps, --minutes and --train.* out"
        )
    if is_closed_form and n_tracked_rows:
        raise UsageError(
            "this recipe takes no steps to keep account of",
            remedy="Leave it out: `feller audit` tells what rows gave away",
            argument="audit",
        )
    if start_model is not None and (is_closed_form or start_model.family.name == "graphical"):
        raise UsageError(
            "what is found at once starts from no model, and no training starts from it",
            remedy="Leave it out",
            argument="start_from",
        )
