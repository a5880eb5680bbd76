"""Files of a private run hold whole minutes, and saving often does not move the clock."""

import pytest
import torch

from feller.app.workflows.private.private_training import CLOCK_SECONDS
from feller.core.run_folder import Run
from feller.training.callbacks import CheckpointSaver
from feller.training.checkpoint import read_counters
from feller.training.loop import make_train_state
from feller.training.optimizer import TrainConfig


@pytest.mark.parametrize(("resolution", "kept"), [(0.0, 61.5), (CLOCK_SECONDS, 120.0)])
def test_saving_rounds_what_is_written_and_not_the_clock(tmp_path, resolution, kept):
    state, run = make_train_state(torch.nn.Linear(2, 1), TrainConfig(steps=1)), Run(tmp_path)
    state.seconds = 61.5
    saver = CheckpointSaver(run, clock_resolution=resolution)
    for _ in range(3):
        saver.on_checkpoint(state)
        assert read_counters(run)["seconds"] == kept
        assert state.seconds == 61.5
