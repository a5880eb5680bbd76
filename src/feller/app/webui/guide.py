"""Conditions and guidance as controls, from what a model was fitted with."""

from feller.app.webui.controls import Choice, Control, Number, Words
from feller.app.webui.loaded_run import Opened
from feller.app.webui.tab import Answers
from feller.core.errors import UsageError
from feller.data.modality import Modality
from feller.data.tables.modality import Table
from feller.models.spec import Description

ANY = "as in the data"
"""A condition that is drawn as often as in the training data."""
GIVEN, GUIDANCE, FIXED = "given:", "guidance", "fixed"
"""Begins the names of conditions; names of the others."""
MOST_GUIDANCE = 10.0


def guides(one: Opened) -> dict[str, Control]:
    """Return a list for each condition, a slider where the model can be guided, and a line for parts that are given."""
    about = one.about
    if about is None:
        return {}
    found: dict[str, Control] = {}
    for name in about.frequencies:
        options = (ANY, *about.modality.conditions[name])
        found[f"{GIVEN}{name}"] = Choice(label=name.capitalize(), options=options, value=ANY)
    if about.frequencies and about.drop:
        found[GUIDANCE] = Number(
            label="Guidance",
            hint="1 is plain, more follows the condition more sharply.",
            value=1.0,
            least=0.0,
            most=MOST_GUIDANCE,
            whole=False,
            flags=("--guidance",),
        )
    names = _typed(about)
    if names:
        found[FIXED] = Words(
            label="Given",
            hint=f"What is already known, as NAME=VALUE, one a line. Names: {', '.join(names)[:300]}.",
            example=f"{names[0]}=...",
            lines=2,
            flags=("--given",),
        )
    return found


def _typed(about: Description) -> tuple[str, ...]:
    """Return parts that a person can give by typing; files are never named by the client."""
    modality = about.modality
    names = modality.leaves if isinstance(modality, Table) else about.fixable
    return tuple(name for name in modality.leaves if name in names and name not in modality.filed)


def given_of(answers: Answers, modality: Modality) -> dict[str, str]:
    """Return what is given, by name.

    Raises:
        UsageError: If a line is not NAME=VALUE, or names what only a file can say.
    """
    chosen = {name.removeprefix(GIVEN): value for name, value in answers.items() if name.startswith(GIVEN)}
    given = {name: value for name, value in chosen.items() if value != ANY}
    for line in filter(None, map(str.strip, answers.get(FIXED, "").splitlines())):
        name, is_there, value = (part.strip() for part in line.partition("="))
        if not is_there:
            raise UsageError(f"write what is given as NAME=VALUE, one a line, got {line[:40]!r}")
        if name in modality.filed:
            raise UsageError(f"{name} is given by a file, which this page does not take; use `feller sample --given`")
        if name in given:
            raise UsageError(f"{name} is given twice; leave one out")
        given[name] = value
    return given


def guidance_of(answers: Answers) -> float:
    """Return the weight of guidance, 1 where there is none."""
    return float(answers.get(GUIDANCE, 1.0))
