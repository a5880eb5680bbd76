"""Planning of a fit: choice of its data, recipe and privacy policy before any file is written."""

import pathlib
from dataclasses import replace

from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.fitting.document_tokenizers import with_tokenizer
from feller.app.workflows.fitting.fit_plan import DataAccess, FitPlan
from feller.app.workflows.fitting.image_latents import (
    check_latent,
    with_latents,
)
from feller.app.workflows.fitting.recipe_request import RecipeRequest
from feller.app.workflows.private.budget import training_data_of
from feller.app.workflows.run_config import FitRecord, read_fit_record
from feller.core.errors import UsageError
from feller.core.run_folder import open_run
from feller.core.user_code import fingerprint as file_hash
from feller.data.loading.in_memory import DataSource
from feller.data.loading.targets import with_target
from feller.data.modality import Modality
from feller.models.model import Model, load_model
from feller.models.recipes.recipe import Recipe
from feller.training.optimizer import TrainConfig


def plan_fit(
    record: FitRecord,
    access: DataAccess,
    request: RecipeRequest,
    reporter: Reporter = SILENT,
    in_memory_data: DataSource | None = None,
) -> FitPlan:
    """Read the data of a fit and choose a recipe for the data.

    Args:
        record: Options of the user; the recipe may be `auto`, and an empty size means the default size.
        access: Policy for reading the data and training on the data.
        request: Requested recipe.
        reporter: Log output, for notes that the user should read before privacy budget is spent.
        in_memory_data: Data as a Python object; the file named in the record is a copy of it.

    Raises:
        InputError: If the data are unusable.
        UsageError: If an argument is wrong.
    """
    start_run = open_run(record.start_from) if record.start_from else None
    start_model = load_model(start_run) if start_run else None
    dataset = access.read(record, start_model, request, reporter, in_memory_data)
    if record.target:
        dataset.require_in_memory("--target")
        dataset = with_target(dataset, record.target, request.name)
    dataset = (
        with_tokenizer(dataset, record.config.data_loading.tokenizer, request.size)
        if record.config.data_loading.tokenizer
        else dataset
    )
    if record.config.data_loading.latent:
        dataset = with_latents(dataset, record.config.data_loading.latent, request.size)
    dataset = access.check_data(record, dataset, reporter)
    name, recipe = request.resolve(access.visible_to(record.provenance.recipe, dataset), start_model)
    check_latent(recipe, name, dataset)
    check_target(recipe, name, () if dataset.target is None else record.target, start_model)
    check_closed_form(recipe, start_model, record.watched)
    lora = record.config.training.lora
    lora.check()
    if lora.rank is not None and start_model is None:
        raise UsageError(
            argument="rank",
            expected="a run whose weights get low-rank updates",
            found="none",
            remedy="Give it with --start-from",
        )
    if recipe.objective.is_one_shot:
        dataset.require_in_memory(f"the recipe {name}")
    access.check_recipe(record, name, recipe, start_run, dataset)
    if start_run is not None:
        record = replace(record, config=config_of(FitConfig, record.config, start_from=str(start_run.path)))
    record = record.with_provenance(
        recipe=name,
        size=record.provenance.size or (read_fit_record(start_run).provenance.size if start_run else "small"),
        ancestors=training_data_of(start_run) if start_run else (),
        start_hash=file_hash(start_run.ema_weights) if start_run else "",
        has_own_schema=start_model is not None and has_own_schema(dataset.modality, start_model),
        held_out=recipe.held_out,
        shards={} if dataset.stream is None else dataset.stream.fingerprints,
        code=_code_hash(name, record.modality),
    )
    record = access.add_fingerprint(record, dataset, recipe)
    return access.plan(FitPlan(record, dataset, recipe, start_model, access), request)


def has_own_schema(modality: Modality, start_model: Model) -> bool:
    """Return True if data are a table whose schema is not that of the start model, such as a language model."""
    return modality.has_schema and not start_model.spec.modality.has_schema


def _code_hash(recipe: str, modality: str | None) -> str:
    """Return the hash of the user code file with the recipe or modality; empty without user code."""
    files = {source.rpartition(":")[0] for source in (recipe, modality or "") if ":" in source}
    if len(files) > 1:
        raise UsageError(
            "the recipe and the modality in the same file",
            " and ".join(sorted(files)),
            "Move both into one file",
            argument="code",
        )
    return "".join(file_hash(pathlib.Path(file)) for file in files)


def check_target(recipe: Recipe, name: str, target: tuple[str, ...], start_model: Model | None) -> None:
    """Raise an error if the recipe cannot predict the target, or cannot start from the weights of the initial model."""
    is_regressor = recipe.objective.family == "regressor"
    if target and not is_regressor:
        raise UsageError(
            f"{name} cannot predict {target[0]}", remedy="Use regressor, or logistic-private", argument="recipe"
        )
    if start_model is not None and (is_regressor or start_model.family.prediction_target is not None):
        raise UsageError(
            "a regressor cannot start from another run, and no run can start from a regressor",
            remedy="Leave it out",
            argument="start_from",
        )
    autoencoders = {family for family in ("autoencoder", "latent-autoencoder") if family == recipe.objective.family}
    if start_model is not None and autoencoders != {start_model.family.name} & {"autoencoder", "latent-autoencoder"}:
        raise UsageError(
            "a tokenizer or autoencoder can start only from its like, and other recipes cannot start from one",
            remedy="Leave it out",
            argument="start_from",
        )


def check_closed_form(recipe: Recipe, start_model: Model | None, n_tracked_rows: int = 0) -> None:
    """Raise an error for options that need training steps if the recipe is fitted in closed form."""
    is_closed_form = recipe.objective.is_one_shot
    if is_closed_form and recipe.train != TrainConfig():
        raise UsageError(
            "this recipe is fitted in closed form, without training steps",
            remedy="Leave --steps, --minutes and --train.* out",
        )
    if is_closed_form and n_tracked_rows:
        raise UsageError(
            "this recipe has no training steps to track",
            remedy="Leave it out: `feller audit` measures the leakage of its rows",
            argument="audit",
        )
    if start_model is not None and (is_closed_form or start_model.family.name == "graphical"):
        raise UsageError(
            "a closed-form fit cannot start from another run, and no run can start from a closed-form fit",
            remedy="Leave it out",
            argument="start_from",
        )
