"""feller tune."""

from typing import Any

from feller.app.commands.arguments import by_field, change_fields, check_names
from feller.app.config import TuneConfig
from feller.core.errors import UsageError
from feller.core.run_folder import resumable_run

DEEP = "--method"
"""The flag with which the help shows the fields of a recipe, too."""


def run(config: TuneConfig, words: list[str]) -> dict[str, Any]:
    """Tune; `words` set fields of the recipe."""
    output = config.output
    if output.resume and config.folder is not None:
        raise UsageError("a resumed run knows its base", remedy="Leave out RUN, and name the tuned run with --out")
    if output.resume:
        resumable_run(output.out)  # what is not there is told before what takes long is loaded
    words = by_field(words)
    check_names(words, TuneConfig, "feller.models.recipes.recipe:Recipe")
    from feller.app.reporter import speaks
    from feller.app.terminal import heard, show, speaker
    from feller.app.workflows.run_config import find_run
    from feller.app.workflows.run_status import sketch_of
    from feller.app.workflows.tune import tune
    from feller.models.recipes.recipe import Recipe

    def change(recipe: Recipe) -> Recipe:
        return change_fields(recipe, words, "tune RUN") if words else recipe

    tell, code = speaker(), config.opening.code
    run = find_run(output.out if output.resume else config.folder, code, tell)
    with heard(tell):
        tuned, numbers = tune(run, config, change=change, fields=tuple(words), tell=tell)
    show(numbers, tell)
    tell.say(f"draw samples with: feller sample {tuned.path}{f' --code {code}' if code else ''}")
    if speaks() and (sketch := sketch_of(tuned)):
        tell.say(sketch)
    return {"run": str(tuned.path), **numbers}
