"""Files of a private run hold whole minutes, and saving often does not move the clock."""

import pathlib

import pytest
import torch

from feller.app.workflows.fitting.run_training import _save
from feller.app.workflows.fitting.training_job import Prepared
from feller.core.run_folder import Run
from feller.training.checkpoint import read_counters
from feller.training.loop import make_learner
from feller.training.optimizer import Training


@pytest.mark.parametrize(("tells", "kept"), [(True, 61.5), (False, 120.0)])
def test_saving_rounds_what_is_written_and_not_the_clock(tmp_path: pathlib.Path, tells: bool, kept: float) -> None:
    learner = make_learner(torch.nn.Linear(2, 1), Training(steps=1))
    learner.seconds = 61.5
    ready = object.__new__(Prepared)
    for name, value in (("learner", learner), ("tells_loss", tells)):
        object.__setattr__(ready, name, value)
    run = Run(tmp_path)
    for _ in range(3):
        _save(run, ready, writes=True)
        assert read_counters(run)["seconds"] == kept
        assert learner.seconds == 61.5
