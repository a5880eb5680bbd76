"""Command `feller tune`."""

from typing import Any

from feller.app.commands.arguments import change_fields, check_names, expand_field_aliases
from feller.app.config import TuneConfig
from feller.core.errors import UsageError
from feller.core.run_folder import resumable_run

NESTED_HELP_FLAG = "--method"
"""Flag that makes --help list the fields of a recipe as well."""


def run(config: TuneConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller tune`; `words` are flags that set fields of the recipe."""
    output = config.output
    if output.resume and config.folder is not None:
        raise UsageError(
            "a resumed run already has a base model", remedy="Leave out RUN, and name the tuned run with --out"
        )
    if output.resume:
        resumable_run(output.out)  # fail on a missing run before loading torch
    words = expand_field_aliases(words)
    check_names(words, TuneConfig, "feller.models.recipes.recipe:Recipe")
    from feller.app.reporter import is_main_process
    from feller.app.terminal import make_reporter, show_metrics, show_own_warnings
    from feller.app.workflows.run_config import find_run
    from feller.app.workflows.run_status import read_undertrained_notice
    from feller.app.workflows.tune import tune
    from feller.models.recipes.recipe import Recipe

    def change(recipe: Recipe) -> Recipe:
        return change_fields(recipe, words, "tune RUN") if words else recipe

    reporter, code = make_reporter(), config.loading.code
    run = find_run(output.out if output.resume else config.folder, code, reporter)
    with show_own_warnings(reporter):
        tuned_run, metrics = tune(run, config, change=change, field_words=tuple(words), reporter=reporter)
    show_metrics(metrics, reporter)
    reporter.log(f"sample with: feller sample {tuned_run.path}{f' --code {code}' if code else ''}")
    if is_main_process() and (notice := read_undertrained_notice(tuned_run)):
        reporter.log(notice)
    return {"run": str(tuned_run.path), **metrics}
