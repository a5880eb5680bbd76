"""feller fit."""

from typing import Any

from feller.app.commands.arguments import by_field, change_fields, check_names
from feller.app.config import FitConfig
from feller.core.errors import UsageError

DEEP = "--recipe"
"""The flag with which the help shows the fields of a recipe, too."""
_DEEPER = (
    "feller.models.recipes.recipe:Recipe",
    "feller.models.recipes.recipe:DocumentAuxNetworks",
    "feller.models.recipes.recipe:SpeechAuxNetworks",
)
"""Where the fields of a recipe are."""


def _example_for(recipe: str | None) -> str | None:
    """Return the first example that a recipe takes, whose help depends on its data; None if there is none."""
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
    """Fit; `words` set fields of the recipe."""
    words = by_field(words)
    check_names(words, FitConfig, *_DEEPER)
    from feller.app.reporter import speaks
    from feller.app.terminal import heard, show, speaker
    from feller.app.workflows.fit import fit
    from feller.app.workflows.run_config import record_of
    from feller.app.workflows.run_status import sketch_of
    from feller.data.loading.targets import predicts_target
    from feller.models.recipes.recipe import Recipe

    def change(recipe: Recipe) -> Recipe:
        return change_fields(recipe, words, "fit DATA") if words else recipe

    tell = speaker()
    helps = "--help" in words and config.data is None and not config.output.resume
    data = _example_for(config.recipe_name or "auto") if helps else config.data
    with heard(tell):
        run, numbers = fit(config, data, change=change, fields=tuple(words), tell=tell)
    show(numbers, tell)
    asked = record_of(run)
    file = asked.code_file
    code = f" --code {file}" if file else ""
    if asked.target and predicts_target(asked.provenance.recipe):
        tell.say(f"ask for samples of another run with: feller steer RUN --reward {run.path}")
    elif "codebook_use" in numbers:
        tell.say(f"see how it copies other pictures with: feller evaluate {run.path} --data OTHER{code}")
    elif "log_mel_error" in numbers:
        tell.say(f"see how it copies other sounds with: feller evaluate {run.path} --data OTHER{code}")
    elif config.report != "none":
        tell.say(f"draw samples with: feller sample {run.path}{code}")
    else:
        tell.say(f"evaluate it with: feller evaluate {run.path}{code}")
    if speaks() and (sketch := sketch_of(run)):
        tell.say(sketch)
    return {"run": str(run.path), **numbers}
