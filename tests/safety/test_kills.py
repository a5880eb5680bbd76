"""A fit that is killed at any moment goes on, and ends with the weights of one that was not."""

import pathlib

import pytest
import torch

from feller.tensors import load_tensors
from tests.safety.child import feller
from tests.safety.killing import killed

FIT = ("fit", "example:moons", "--recipe", "points", "--architecture.width", "8", "--architecture.depth", "1")
LITTLE = ("--train.batch", "16", "--sampling.calls", "2")
SAVING = "import feller.journeys.learn as learn\nlearn.CHECKPOINT_SECONDS = 0.0"
"""Saves after each step, so that most kills fall into a save."""


def ends_alike(home: pathlib.Path, steps: int, kills: int, longest: float) -> None:
    whole = feller(*FIT, *LITTLE, "--steps", steps, "--out", "whole", cwd=home)
    assert whole.status == 0, whole.err
    run = home / "killed"
    begun = (*FIT, *LITTLE, "--steps", steps, "--out", "killed", "--overwrite")

    def again() -> tuple[str, ...] | None:
        return ("fit", "--resume", "--out", "killed") if (run / "state.safetensors").is_file() else None

    def first() -> tuple[object, ...]:
        return begun if (run / "recipe.json").is_file() and (run / "model.json").is_file() else begun[:-1]

    done = killed(
        first(),
        lambda: again() or first(),
        home,
        kills=kills,
        seed=1,
        ready=(run / "lock").is_file,
        longest=longest,
        prelude=SAVING,
    )
    assert done.kills == kills
    for name in ("weights", "average"):
        a, b = (load_tensors(home / folder / f"{name}.safetensors")[0] for folder in ("whole", "killed"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    left = [path.name for path in run.iterdir() if path.name.startswith(".")]
    assert not left  # what a killed save did not finish is gone


def test_a_few_kills(tmp_path: pathlib.Path) -> None:
    ends_alike(tmp_path, steps=60, kills=2, longest=1.0)


@pytest.mark.slow
def test_twenty_kills(tmp_path: pathlib.Path) -> None:
    ends_alike(tmp_path, steps=400, kills=20, longest=3.0)
