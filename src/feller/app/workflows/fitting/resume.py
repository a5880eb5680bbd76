"""Planning of a resumed fit from its recorded options."""

import pathlib
from dataclasses import replace

from feller.app.config import FitConfig
from feller.app.options import to_record, values_of
from feller.app.workflows.bridges.bridge_detection import is_bridge
from feller.app.workflows.fine_tuned_run import read_tuning_record
from feller.app.workflows.fitting.closed_form import refuse_resume
from feller.app.workflows.fitting.document_tokenizers import restore_tokenizer
from feller.app.workflows.fitting.fit_plan import FitPlan
from feller.app.workflows.fitting.image_latents import restore_latents
from feller.app.workflows.fitting.recipe_request import RecipeRequest
from feller.app.workflows.private.private_data import resumed_access
from feller.app.workflows.run_config import FitRecord, read_fit_record, read_import_conventions, reread_data
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, open_run
from feller.core.user_code import fingerprint as file_hash
from feller.core.user_code import load_function
from feller.data.loading.in_memory import DataSource
from feller.models.model import Model, load_model
from feller.models.recipes.recipe import Recipe
from feller.models.spec import load_spec
from feller.networks.network_config import DEFAULT_PARAMETER_BYTES, limit_parameter_bytes
from feller.training.engine import Engine

FIXED_OPTIONS = (
    "data",
    "size",
    "longest",
    "space",
    "vocabulary",
    "modality",
    "tokenizer",
    "latent",
    "target",
    "condition",
    "schema",
    "seed",
    "rank",
    "target_modules",
)
"""Names of the options, in addition to the recipe, that cannot be changed when a fit is resumed."""


def plan_resumed(
    run: Run, config: FitConfig, request: RecipeRequest, engine: Engine, in_memory_data: DataSource | None = None
) -> FitPlan:
    """Return the plan of a resumed run: recorded options, data, recipe and initial model.

    Args:
        run: Run to resume.
        config: Current options; each option in `FIXED_OPTIONS` must be omitted or equal the recorded option.
        request: Changes to the recorded recipe.
        engine: Device and processes.
        in_memory_data: Training data as a Python object; needed if the run was fitted to a Python object and stores no
            copy.

    Raises:
        InputError: If the run, its data or its initial model have changed.
        UsageError: If a fixed option differs from the recorded one.
    """
    record = read_fit_record(run)
    if read_tuning_record(run) is not None:
        raise UsageError(
            "is a fine-tuned run", remedy=f"Continue with: feller tune --resume --out {run.path}", file=run.path
        )
    if read_import_conventions(run) is not None:
        remedy = f"Continue with: feller fit DATA --start-from {run.path}"
        raise UsageError(
            argument="resume",
            file=run.path,
            expected="a run written by `feller fit`",
            found="a network that was saved or imported",
            remedy=remedy,
        )
    if is_bridge(run):
        raise UsageError("is a bridge", remedy=f"Continue with: feller bridge --resume --out {run.path}", file=run.path)
    options, recipe = to_record(config), config.recipe_name
    provenance = record.provenance
    recorded = {**values_of(record.config), "recipe": provenance.recipe, "size": provenance.size, "seed": record.seed}
    for name in FIXED_OPTIONS if provenance.code or recipe == "auto" else (*FIXED_OPTIONS, "recipe"):
        value, recorded_value = values_of(config)[name], recorded[name]
        if name in options and value != recorded_value:
            recorded_text = "its default" if recorded_value in (None, "", ()) else recorded_value
            raise UsageError(
                f"was fitted with {name} {recorded_text}, not {value}",
                remedy="Leave out --resume to start a new run",
                file=run.path,
            )
    if record.provenance.code:
        _load_code(record, options.get("modality") or recipe)  # may define components of the run
    start_model = _load_start_model(record)
    spec = load_spec(run)
    like = spec.modality if start_model is None or spec.modality.has_schema else start_model.spec.modality
    dataset = reread_data(record, like, in_memory_data)
    old_recipe = limit_parameter_bytes(DEFAULT_PARAMETER_BYTES, lambda: run.read_as(Recipe, run.recipe, "recipe"))
    if old_recipe.objective.is_one_shot:
        refuse_resume(run)
    new_recipe = request.apply(old_recipe)
    if replace(new_recipe, train=old_recipe.train, sampling=old_recipe.sampling) != old_recipe:
        raise UsageError(
            "a resumed run can change only --train.* and --sampling.*", remedy="Start a new run for other changes"
        )
    dataset = dataset.with_modality(new_recipe.modality or dataset.modality)
    dataset = (
        restore_tokenizer(dataset, record.config.data_loading.tokenizer, run)
        if record.config.data_loading.tokenizer
        else dataset
    )
    dataset = restore_latents(dataset, record.config.data_loading.latent, run)
    access = resumed_access(record, engine)
    return access.resume(
        run, FitPlan(record, dataset, new_recipe, start_model, access, aux_networks=spec.aux_hashes), spec
    )


def _load_start_model(record: FitRecord) -> Model | None:
    """Return the model that the run started from; raises an error if its weights have changed."""
    if record.start_from is None:
        return None
    start_run = open_run(record.start_from)
    if file_hash(start_run.ema_weights) != record.provenance.start_hash:
        raise InputError(
            "has changed since this run started", remedy="Restore it or start a new run", file=start_run.path
        )
    return load_model(start_run)


def _load_code(record: FitRecord, recipe: str | None) -> None:
    """Load the user code of the recipe; raises an error if its file has changed."""
    if recipe is None and record.code_file:
        raise UsageError("this run uses custom code", remedy=f"Resume the run with {' '.join(record.code_arguments)}")
    if recipe is None or file_hash(pathlib.Path(recipe.rpartition(":")[0])) != record.provenance.code:
        raise InputError(f"{recipe} has changed since this run started", remedy="Restore it or start a new run")
    load_function(recipe)
