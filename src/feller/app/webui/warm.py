"""What is done once before anybody asks: first network calls, and what tabs load, take far longer than what follows."""

import contextlib
import importlib

from feller.app.webui.made import place_in
from feller.app.webui.tab import Place
from feller.app.workflows.sample import sample

LATER = (
    "feller.evaluation.report.metrics",
    "feller.app.workflows.steering.inverse_problems",
    "feller.app.workflows.steer",
)
"""Modules that tabs load when they are first used."""


def warm(place: Place) -> None:
    """Draw one sample of the first run that can, then load what tabs need; what fails says so when somebody asks."""
    _draw(place)
    for name in LATER:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _draw(place: Place) -> None:
    one = next((one for one in place.runs if one.is_plain and one.run.average.is_file()), None)
    if one is None or one.modality is None:
        return
    with contextlib.suppress(Exception):
        sample(one.run, 1, out=str(place_in(place.scratch.room(), one.modality)))
