"""The report of a run as it is read again; it may come from a stranger."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.core.serialization import read_json


@dataclass(frozen=True)
class Reported:
    """What report.json holds that others go by, each of the type that it must have."""

    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)
    """By their names in --json."""
    explanations: Mapping[str, str] = field(default_factory=dict)
    """One plain sentence for a number."""
    verdict: str = ""
    sketch: str = ""


def reported_of(run: Run) -> Reported:
    """Return what the report of a run says; nothing where there is none, or a link to another.

    Raises:
        InputError: If it is damaged.
    """
    file = run.path / "report.json"
    if not file.is_file() or file.is_symlink():
        return Reported()
    anew = f"write it anew with: feller evaluate {run.path}"
    try:
        content = read_json(file)
    except InputError as error:
        raise InputError(f"{error}; {anew}") from error
    found = Reported(**{name: content[name] for name in KINDS if name in content}) if _is_report(content) else None
    if found is None:
        raise InputError(f"{file} was damaged; {anew}")
    return found


def _is_report(content: Any) -> bool:
    return isinstance(content, dict) and all(fits(content[name]) for name, fits in KINDS.items() if name in content)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_number(value: Any) -> bool:
    """Tell whether a value is what a report has for a number; whole ones beyond all floats are none."""
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return value is None or isinstance(value, float | str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


KINDS = {"numbers": _are_numbers, "explanations": _are_texts, "verdict": _is_text, "sketch": _is_text}
"""What each entry must be, where it is there."""
