"""Command `feller fit`."""

from typing import Any

from feller.app.commands.arguments import change_fields, check_names, expand_field_aliases
from feller.app.config import FitConfig
from feller.core.errors import UsageError

NESTED_HELP_FLAG = "--recipe"
"""Flag that makes --help list the fields of a recipe as well."""
_RECIPE_CLASSES = (
    "feller.models.recipes.recipe:Recipe",
    "feller.models.recipes.recipe:DocumentAuxNetworks",
    "feller.models.recipes.recipe:SpeechAuxNetworks",
    "feller.models.recipes.recipe:LatentAuxNetworks",
)
"""Dataclasses that define the fields of a recipe, as module:CLASS."""


def _example_for(recipe: str | None) -> str | None:
    """Return the first built-in example that a recipe accepts, to list its fields in --help; None without one."""
    from feller.app.modalities.registration import find_recipe
    from feller.core.errors import InputError
    from feller.data.examples.registry import EXAMPLE_INFOS, EXAMPLE_PREFIX
    from feller.data.loading.dataset_reader import read

    for name in dict.fromkeys(("digits", *EXAMPLE_INFOS)):
        try:
            find_recipe(recipe or "auto", read(f"{EXAMPLE_PREFIX}{name}"), "small")
        except (InputError, UsageError):
            continue
        return f"{EXAMPLE_PREFIX}{name}"
    return None


def run(config: FitConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller fit`; `words` are flags that set fields of the recipe."""
    words = expand_field_aliases(words)
    check_names(words, FitConfig, *_RECIPE_CLASSES)
    from feller.app.reporter import is_main_process
    from feller.app.terminal import make_reporter, show_metrics, show_own_warnings
    from feller.app.workflows.fit import fit
    from feller.app.workflows.run_config import read_fit_record
    from feller.app.workflows.run_status import read_undertrained_notice
    from feller.data.loading.targets import predicts_target
    from feller.models.recipes.recipe import Recipe

    def change(recipe: Recipe) -> Recipe:
        return change_fields(recipe, words, "fit DATA") if words else recipe

    reporter = make_reporter()
    shows_help = "--help" in words and config.data is None and not config.output.resume
    data = _example_for(config.recipe_name or "auto") if shows_help else config.data
    with show_own_warnings(reporter):
        run, metrics = fit(config, data, change=change, field_words=tuple(words), reporter=reporter)
    show_metrics(metrics, reporter)
    record = read_fit_record(run)
    code_file = record.code_file
    code_flag = f" --code {code_file}" if code_file else ""
    if record.target and predicts_target(record.provenance.recipe):
        reporter.log(f"use it as a reward for another run with: feller steer RUN --reward {run.path}")
    elif "codebook_use" in metrics or ("fd_cnn_reconstructed" in metrics and "fd_cnn" not in metrics):
        reporter.log(
            f"evaluate its reconstruction of other images with: feller evaluate {run.path} --data OTHER{code_flag}"
        )
    elif "log_mel_error" in metrics:
        reporter.log(
            f"evaluate its reconstruction of other audio with: feller evaluate {run.path} --data OTHER{code_flag}"
        )
    elif config.report != "none":
        reporter.log(f"sample with: feller sample {run.path}{code_flag}")
    else:
        reporter.log(f"evaluate it with: feller evaluate {run.path}{code_flag}")
    if is_main_process() and (notice := read_undertrained_notice(run)):
        reporter.log(notice)
    return {"run": str(run.path), **metrics}
