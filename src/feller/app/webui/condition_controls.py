"""Controls for the conditions of a run, and what their values mean."""

from typing import Any

from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.tab import Answers
from feller.app.webui.widgets import choice, number, text_field
from feller.core.errors import UsageError
from feller.data.conditions.condition import Condition
from feller.data.modality import Modality
from feller.data.tables.modality import Table

UNCONDITIONED = "any (as in the training data)"
"""Label of the choice that samples a condition with its training frequencies."""
OPEN = "open (not given)"
"""Label of the choice that leaves a selected condition open."""
CONDITION_PREFIX, GUIDANCE_CONTROL = "given:", "guidance"
"""Prefix of the control names for conditions, and name of the guidance control."""
GUIDANCE_PREFIX = "guidance:"
"""Prefix of the control names for the guidance scales of single conditions."""


def condition_controls(run: LoadedRun) -> dict[str, Any]:
    """Return the controls for the conditions of a run, by control name.

    They are a dropdown or text field per condition, a slider for the guidance scale, and a text field for observed
    values; those that the model does not support are left out.
    """
    spec = run.spec
    if spec is None:
        return {}
    options = {name: (UNCONDITIONED, *spec.modality.conditions[name]) for name in spec.frequencies}
    controls = {f"{CONDITION_PREFIX}{name}": choice(name.capitalize(), names) for name, names in options.items()}
    for name, kind in spec.modality.selected_conditions.items():
        if not kind.is_file:
            controls[f"{CONDITION_PREFIX}{name}"] = _condition_field(name, kind, can_be_open=spec.cond_dropout > 0)
    if spec.condition_names and spec.cond_dropout:
        controls[GUIDANCE_CONTROL] = guidance_control(
            "Classifier-free guidance: 0 ignores the condition, 1 is off, larger values follow it more closely. Compare"
            " values in the tab Guidance."
        )
    conditionable = spec.modality.conditionable_leaves if run.modality_as(Table) is not None else spec.conditionable
    names = [
        name
        for name in spec.modality.conditionable_leaves
        if name in conditionable and name not in spec.modality.file_conditions
    ]
    if names:
        hint = f"Observed values as NAME=VALUE, one per line. Names: {', '.join(names)[:300]}."
        controls["given"] = text_field("Observed values", hint=hint, example=f"{names[0]}=...", lines=2)
    return controls


def _condition_field(name: str, kind: Condition, *, can_be_open: bool) -> Any:
    """Return the control of a selected condition: a dropdown for categories, or a text field."""
    if kind.choices:
        return choice(name, (OPEN, *kind.choices) if can_be_open else kind.choices)
    hint = "Empty: open, not given." if can_be_open else "This model needs a value."
    return text_field(name, hint=hint, example=kind.placeholder)


def sample_controls(run: LoadedRun) -> dict[str, Any]:
    """Return the controls of `condition_controls`, with one guidance slider for each of several conditions."""
    controls = condition_controls(run)
    names = () if run.spec is None else run.spec.condition_names
    if len(names) < 2 or GUIDANCE_CONTROL not in controls:
        return controls
    del controls[GUIDANCE_CONTROL]
    hint = "0 ignores the condition, 1 is off, larger values follow it more closely."
    sliders = {name: number(f"Guidance of {name}", 1.0, 0.0, 10.0, hint=hint, is_integer=False) for name in names}
    return {**controls, **{f"{GUIDANCE_PREFIX}{name}": slider for name, slider in sliders.items()}}


def guidance_control(hint: str, maximum: float = 10.0, value: float = 1.0) -> Any:
    """Return a slider for the guidance scale from 0 to `maximum`; `hint` is the help text below its label."""
    return number("Guidance scale", value, 0.0, maximum, hint=hint, is_integer=False)


def conditions_from(answers: Answers, modality: Modality) -> dict[str, str]:
    """Return the values of the conditions in a request as text, by condition name.

    Raises:
        UsageError: If a line is not NAME=VALUE, repeats a name, or names a condition that needs a file.
    """
    chosen = {
        name.removeprefix(CONDITION_PREFIX): value
        for name, value in answers.items()
        if name.startswith(CONDITION_PREFIX)
    }
    values = {name: value for name, value in chosen.items() if value not in (UNCONDITIONED, OPEN) and value.strip()}
    for line in filter(None, map(str.strip, answers.get("given", "").splitlines())):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise UsageError(expected="conditions as NAME=VALUE, one per line", found=repr(line[:40]))
        selected = modality.selected_conditions.get(name)
        if name in modality.file_conditions or (selected is not None and selected.is_file):
            raise UsageError(
                f"{name} is given by a file, which this page does not accept", remedy="Use `feller sample --given`"
            )
        if name in values:
            raise UsageError(f"{name} is given twice", remedy="Remove one")
        values[name] = value
    return values


def guidance_from(answers: Answers) -> float:
    """Return the guidance scale of a request; 1 if the tab has no guidance control."""
    return float(answers.get(GUIDANCE_CONTROL, 1.0))


def guidance_scales_from(answers: Answers) -> float | dict[str, float]:
    """Return the guidance scale of a request, or one for each condition if the tab has a slider for each."""
    scales = {
        name.removeprefix(GUIDANCE_PREFIX): float(value)
        for name, value in answers.items()
        if name.startswith(GUIDANCE_PREFIX)
    }
    return scales if any(scale != 1 for scale in scales.values()) else guidance_from(answers)
