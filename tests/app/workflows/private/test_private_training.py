"""Gradient noise, recorded times, and per-example leakage of private training."""

from dataclasses import replace

import pytest
import torch

from feller.app.workflows.private.leakage_report import read_leakage
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.private.private_training import CLOCK_SECONDS, gradient_noise
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors
from feller.privacy.noise.grid_noise import SecureNoise, SeededNoise
from feller.training.callbacks import CheckpointSaver
from feller.training.checkpoint import read_counters
from feller.training.loop import make_train_state
from feller.training.optimizer import TrainConfig
from tests.errors import refuses

PLANNED = Guarantee(epsilon=1.0, delta=1e-5, n=100, sigma=1.0, clip=1.0, batch=10, steps=3)
ROWS, TRACES = torch.arange(3), torch.ones(3, dtype=torch.float64)
NOTE = {"coordinates": "4", "steps": "5"}


def test_gradient_noise_is_secret_unless_seeded():
    """Whatever several processes have agreed upon."""
    assert type(gradient_noise(PLANNED, 0)) is SecureNoise
    assert gradient_noise(PLANNED, 0).random_bytes(32) != gradient_noise(PLANNED, 0).random_bytes(32)
    assert type(gradient_noise(replace(PLANNED, unsafe_seed=1), 0)) is SeededNoise


@pytest.mark.parametrize(("resolution", "kept"), [(0.0, 61.5), (CLOCK_SECONDS, 120.0)])
def test_recorded_time_is_rounded(tmp_path, resolution, kept):
    """But not the clock, however often it is saved."""
    state, run = make_train_state(torch.nn.Linear(2, 1), TrainConfig(steps=1)), Run(tmp_path)
    state.seconds = 61.5
    saver = CheckpointSaver(run, clock_resolution=resolution)
    for _ in range(3):
        saver.on_checkpoint(state)
        assert (read_counters(run)["seconds"], state.seconds) == (kept, 61.5)


def test_leakage_is_read(tmp_path):
    save_tensors(Run(tmp_path).leakage, {"rows": ROWS, "traces": TRACES}, NOTE)
    found = read_leakage(Run(tmp_path))
    assert torch.equal(found.leakage.eta2, TRACES / 4)


@pytest.mark.parametrize(
    ("tensors", "note"),
    [
        ({"traces": None}, NOTE),
        ({"rows": ROWS.double()}, NOTE),
        ({"rows": ROWS[:2]}, NOTE),
        ({"rows": ROWS - 1}, NOTE),
        ({"rows": ROWS[:0], "traces": TRACES[:0]}, NOTE),
        ({"traces": -TRACES}, NOTE),
        ({"traces": TRACES * torch.nan}, NOTE),
        ({}, {"coordinates": "0", "steps": "5"}),
        ({}, {"coordinates": "4", "steps": "many"}),
    ],
)
def test_damaged_leakage_is_refused(tmp_path, tensors, note):
    tensors = {"rows": ROWS, "traces": TRACES, **tensors}
    file = Run(tmp_path).leakage
    save_tensors(file, {name: tensor for name, tensor in tensors.items() if tensor is not None}, note)
    with refuses(InputError, file=str(file)):
        read_leakage(Run(tmp_path))
