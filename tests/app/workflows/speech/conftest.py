"""A model that speaks at one pace."""

from dataclasses import replace

import pytest

from feller.app.modalities.speech import require_speech
from feller.core.run_folder import Run
from feller.models.model import Model, load_model
from tests.app.workflows.speech.pace import Even


@pytest.fixture
def even(speaking, monkeypatch):
    """Return it; whoever loads the run gets it."""
    found = load_model(Run(speaking))
    kind = replace(require_speech(found), duration_regressor=Even(), duration_sampler=Even())
    model = Model.from_spec(replace(found.spec, modality=kind), found.network)
    monkeypatch.setattr("feller.app.workflows.speech.sample_speech.load_model", lambda run: model)
    return model
