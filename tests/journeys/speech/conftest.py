"""A model that speaks at one pace."""

import pathlib
from dataclasses import replace

import pytest
from tests.journeys.speech.pace import Even

from feller.journeys.speech.kind import kind_of
from feller.model import Model, load_model
from feller.run import Run


@pytest.fixture
def even(speaking: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Return it; whoever loads the run gets it."""
    found = load_model(Run(speaking))
    kind = replace(kind_of(found), durations=Even(), rhythm=Even())
    model = replace(found, description=replace(found.description, modality=kind))
    monkeypatch.setattr("feller.journeys.speech.sampled.load_model", lambda run: model)
    return model
