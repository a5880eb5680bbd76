"""Killed commands resume to the same result."""

import pathlib

import numpy as np
import pytest
import torch

from feller.core.safetensors_io import load_tensors
from tests.data.shards.written import pictures
from tests.safety.child import feller
from tests.safety.killing import killed

FIT = ("fit", "example:moons", "--recipe", "points", "--architecture.width", "8", "--architecture.depth", "1")
LITTLE = ("--train.batch-size", "16", "--sampling.nfe", "2")
SAVING = "import feller.training.callbacks as saving\nsaving.CHECKPOINT_SECONDS = 0.0"
"""Saves after each step, so that most kills fall into a save."""


def check_killed_fit(
    home: pathlib.Path, steps: int, kills: int, longest: float, fit: tuple[str, ...] = (*FIT, *LITTLE)
) -> None:
    whole = feller(*fit, "--steps", steps, "--out", "whole", cwd=home)
    assert whole.status == 0, whole.err
    run = home / "killed"
    begun = (*fit, "--steps", steps, "--out", "killed", "--overwrite")

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


@pytest.mark.slow
def test_fit_killed_20_times(tmp_path: pathlib.Path) -> None:
    check_killed_fit(tmp_path, steps=400, kills=20, longest=3.0)


NETWORK = ("--architecture.channels", "8", "--architecture.multipliers", "1", "--architecture.attention", "False")
SHARDS = ("fit", "shards", "--recipe", "images", *NETWORK, "--train.batch-size", "6", "--sampling.nfe", "2")


@pytest.mark.slow
def test_fit_from_shards_killed_10_times(tmp_path: pathlib.Path) -> None:
    pictures(tmp_path / "shards")
    check_killed_fit(tmp_path, steps=120, kills=10, longest=4.0, fit=SHARDS)


BRIDGE = ("bridge", "a.csv", "b.csv", "--pairs", "64", "--train.steps", "20", "--train.batch-size", "64", "--nfe", "28")


@pytest.mark.slow
def test_bridge_killed_twice(tmp_path: pathlib.Path) -> None:
    """Each comes somewhere in the round after the one that was saved."""
    draws = np.random.default_rng(0)
    for name, middle in (("a.csv", 0.0), ("b.csv", 4.0)):
        np.savetxt(tmp_path / name, draws.normal(middle, 1, (60, 2)), delimiter=",", header="x,y", comments="")
    asked = (*BRIDGE, "--rounds", "3")
    whole = feller(*asked, "--out", "whole", cwd=tmp_path)
    assert whole.status == 0, whole.err
    run = tmp_path / "killed"
    seen: set[bytes] = set()

    def saved() -> bool:
        now = (run / "state.json").read_bytes() if (run / "state.json").is_file() else b""
        new = b'"rounds": 0' not in now and now not in {b"", *seen}
        seen.update({now} if new else ())
        return new

    done = killed(
        (*asked, "--out", "killed"),
        lambda: ("bridge", "--resume", "--out", "killed") if (run / "state.safetensors").is_file() else None,
        tmp_path,
        kills=2,
        seed=3,
        ready=saved,
        longest=0.3,
    )
    assert done.kills == 2
    for name in ("weights", "average"):
        a, b = (load_tensors(tmp_path / folder / f"{name}.safetensors")[0] for folder in ("whole", "killed"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


SLOWLY = """import time
from feller.app.workflows import sharded_samples as sharded
written = sharded._written
def slowly(*what):
    time.sleep(0.05)
    return written(*what)
sharded._written = slowly"""
"""Draws shards slowly enough that kills fall into all of them."""


class Begun:
    """Tells when a process has taken the folder that is not the one before."""

    def __init__(self, lock: pathlib.Path) -> None:
        self.lock, self.last = lock, ""

    def __call__(self) -> bool:
        holder = self.lock.read_text() if self.lock.is_file() else ""
        if not holder or holder == self.last:
            return False
        self.last = holder
        return True


def check_killed_sampling(home: pathlib.Path, n: int, kills: int, longest: float) -> None:
    fit = feller(*FIT, *LITTLE, "--steps", 2, "--out", "run", cwd=home)
    assert fit.status == 0, fit.err
    asked = ("sample", "run", "-n", n, "--shard-size", 50, "--seed", 3)
    whole = feller(*asked, "--out", "whole", cwd=home)
    assert whole.status == 0, whole.err
    many = home / "many"
    done = killed(
        (*asked, "--out", "many"),
        lambda: None,
        home,
        kills=kills,
        seed=2,
        ready=Begun(many / "lock"),
        longest=longest,
        prelude=SLOWLY,
    )
    assert done.kills == kills
    made = {path.name: path.read_bytes() for path in many.iterdir() if path.name != "lock"}
    assert made == {path.name: path.read_bytes() for path in (home / "whole").iterdir() if path.name != "lock"}
    assert len(made) == n // 50 + 1
    assert "shards exist" in done.err  # the last one did not begin anew


@pytest.mark.slow
def test_sampling_killed_20_times(tmp_path: pathlib.Path) -> None:
    check_killed_sampling(tmp_path, n=20_000, kills=20, longest=0.9)
