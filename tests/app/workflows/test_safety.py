"""What must never be lost, and what a stranger's folder must not do."""

import os
import pathlib
from dataclasses import replace

import pytest
import torch

from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.workflows.fit import fit
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import open_run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.data.loading.dataset_reader import read
from feller.training.objective import FlowMatching
from tests.app.asked import refuse, run
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here", "unreported")

FIT = ("fit", "example:moons", "--size", "tiny", "--steps", 3, "--sampling.nfe", 4)
RESUMED = ("fit", "--resume", "--out", "r", "--steps", 6)


@pytest.mark.slow
def test_overwrite_removes_only_files_of_a_run():
    run(*FIT, "--out", "r")
    pathlib.Path("r/thesis.tex").write_text("mine")
    run(*FIT, "--out", "r", "--overwrite")
    assert pathlib.Path("r/thesis.tex").read_text() == "mine"


def test_overwrite_leaves_what_only_looks_like_a_run():
    pathlib.Path("project").mkdir()
    pathlib.Path("project/model.json").write_text('{"tfjs": 1}')
    refuse(*FIT, "--out", "project", "--overwrite")
    assert pathlib.Path("project/model.json").is_file()


def test_folder_that_fills_while_data_are_read_is_kept(monkeypatch):
    def slow(*words, **more):
        pathlib.Path("r").mkdir()
        pathlib.Path("r/model.json").write_text("of another process")
        return read(*words, **more)

    monkeypatch.setattr("feller.app.workflows.fitting.data_access.read", slow)
    refuse(*FIT, "--out", "r")
    assert pathlib.Path("r/model.json").read_text() == "of another process"


def test_lock_that_is_a_link_is_refused():
    run(*FIT, "--out", "r")
    pathlib.Path("victim.txt").write_text("dear")
    pathlib.Path("r/lock").unlink()
    os.symlink("../victim.txt", "r/lock")
    refuse(*RESUMED, kind=InputError)
    assert pathlib.Path("victim.txt").read_text() == "dear"


@pytest.mark.parametrize("damage", ["shape", "gone"])
def test_optimiser_state_of_another_shape_is_refused(damage):
    run(*FIT, "--out", "r")
    state = open_run("r").state
    tensors, note = load_tensors(state)
    name = next(name for name in tensors if name.endswith("exp_avg"))
    if damage == "shape":
        tensors[name] = torch.zeros(3)
    else:
        del tensors[name]
    save_tensors(state, tensors, note)
    assert "AdamW" in str(refuse(*RESUMED, kind=InputError))


@pytest.mark.slow
def test_samples_leave_other_files_in_their_folder():
    run("fit", "example:digits", "--size", "tiny", "--steps", 2, "--sampling.nfe", 2, "--out", "r")
    words = ("sample", "r", "--given", "label=3", "--out", "new", "-n")
    run(*words, 6)
    pathlib.Path("new/mine").mkdir()
    pathlib.Path("new/mine/00042.png").write_bytes(b"a picture of mine")
    pathlib.Path("new/empty").mkdir()
    run(*words, 4)
    assert len(list(pathlib.Path("new/3").glob("*.png"))) == 4
    assert pathlib.Path("new/mine/00042.png").is_file()
    assert pathlib.Path("new/empty").is_dir()


def test_broken_weights_do_not_replace_good_ones(monkeypatch):
    run(*FIT, "--out", "r")
    good, loss = open_run("r").state.read_bytes(), FlowMatching.loss
    monkeypatch.setattr(FlowMatching, "loss", lambda *words: loss(*words) * float("nan"))
    assert "lower learning rate" in str(refuse(*RESUMED, kind=InputError))
    assert open_run("r").state.read_bytes() == good


def test_resumed_run_of_own_code_keeps_its_fields():
    pathlib.Path("mine.py").write_text(
        "from feller import Affine, FlowMatching, Recipe, TrainConfig\n"
        "from feller.networks.mlp import MLP\n"
        "def own(data, size):\n"
        "    objective = FlowMatching(Affine(), data.modality.space())\n"
        "    train = TrainConfig(batch_size=16, minutes=60.0)\n"
        "    return Recipe(architecture=MLP(width=8, depth=1), objective=objective, train=train)\n"
    )
    words = ("--recipe", "mine.py:own", "--out", "r")
    run("fit", "example:moons", *words, "--steps", 4, "--train.lr", 1e-4)
    run("fit", "--resume", *words)
    train = open_run("r").read_record(open_run("r").recipe)["recipe"]["train"]
    assert (train["steps"], train["lr"]) == (4, 1e-4)


def test_resumed_run_keeps_its_path():
    run(*FIT, "--out", "r")
    with refuses(UsageError):
        fit(config_of(FitConfig, resume=True, out="r"), change=lambda recipe: replace(recipe, held_out=0.5))


def test_what_a_resumed_run_was_asked_for_stays():
    run(*FIT, "--out", "r")
    for words in ("--longest 9", "--size base", "--seed 5", "--recipe images", "--space torus"):
        refuse("fit", "--resume", "--out", "r", *words.split())


@pytest.mark.slow
def test_previews_are_written_and_change_nothing(monkeypatch):
    run(*FIT, "--out", "plain")
    monkeypatch.setattr("feller.training.callbacks.CHECKPOINT_SECONDS", 0.0)
    run(*FIT, "--out", "seen")
    assert open_run("seen").preview.is_file()
    plain, seen = (load_tensors(open_run(name).weights)[0] for name in ("plain", "seen"))
    assert all(torch.equal(plain[name], seen[name]) for name in plain)
