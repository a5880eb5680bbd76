"""What must never be lost, and what a stranger's folder must not do."""

import json
import os
import pathlib
from dataclasses import replace

import pytest
import torch

from feller.app.cli import main
from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.workflows.fit import fit
from feller.app.workflows.fitting.plan_fit import with_budget
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import open_run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.data.loading.dataset_reader import read
from feller.training.objective import FlowMatching

pytestmark = pytest.mark.usefixtures("here", "unreported")

FIT = ["fit", "example:moons", "--size", "tiny", "--steps", "3", "--sampling.nfe", "4"]


def small(steps: int = 3):
    return lambda recipe: with_budget(replace(recipe, sampling=replace(recipe.sampling, nfe=4)), steps=steps)


@pytest.mark.slow
def test_overwrite_removes_only_files_of_a_run():
    assert main([*FIT, "--out", "r"]) == 0
    pathlib.Path("r/thesis.tex").write_text("mine")
    assert main([*FIT, "--out", "r", "--overwrite"]) == 0
    assert pathlib.Path("r/thesis.tex").read_text() == "mine"


def test_overwrite_leaves_what_only_looks_like_a_run(capsys):
    pathlib.Path("project").mkdir()
    pathlib.Path("project/model.json").write_text('{"tfjs": 1}')
    assert main([*FIT, "--out", "project", "--overwrite"]) == 2
    assert pathlib.Path("project/model.json").is_file()


def test_folder_that_fills_while_data_are_read_is_kept(monkeypatch):
    def slow(*words, **more):
        pathlib.Path("r").mkdir()
        pathlib.Path("r/model.json").write_text("of another process")
        return read(*words, **more)

    monkeypatch.setattr("feller.app.workflows.fitting.data_access.read", slow)
    with pytest.raises(UsageError, match="exists"):
        fit(config_of(FitConfig, data="example:moons", size="tiny", out="r"), change=small())
    assert pathlib.Path("r/model.json").read_text() == "of another process"


def test_lock_that_is_a_link_is_refused():
    assert main([*FIT, "--out", "r"]) == 0
    pathlib.Path("victim.txt").write_text("dear")
    pathlib.Path("r/lock").unlink()
    os.symlink("../victim.txt", "r/lock")
    assert main(["fit", "--resume", "--out", "r", "--steps", "6"]) == 1
    assert pathlib.Path("victim.txt").read_text() == "dear"


@pytest.mark.parametrize("damage", ["shape", "gone"])
def test_optimiser_state_of_another_shape_is_refused(damage):
    assert main([*FIT, "--out", "r"]) == 0
    state = open_run("r").state
    tensors, note = load_tensors(state)
    name = next(name for name in tensors if name.endswith("exp_avg"))
    if damage == "shape":
        tensors[name] = torch.zeros(3)
    else:
        del tensors[name]
    save_tensors(state, tensors, note)
    with pytest.raises(InputError, match="AdamW"):
        fit(config_of(FitConfig, resume=True, out="r"), change=small(6))


@pytest.mark.slow
def test_samples_leave_other_files_in_their_folder():
    assert main(["fit", "example:digits", "--size", "tiny", "--steps", "2", "--sampling.nfe", "2", "--out", "r"]) == 0
    words = ["sample", "r", "-n", "6", "--given", "label=3", "--out", "new"]
    assert main(words) == 0
    pathlib.Path("new/mine").mkdir()
    pathlib.Path("new/mine/00042.png").write_bytes(b"a picture of mine")
    pathlib.Path("new/empty").mkdir()
    assert main([*words[:3], "4", *words[4:]]) == 0
    assert len(list(pathlib.Path("new/3").glob("*.png"))) == 4
    assert pathlib.Path("new/mine/00042.png").is_file()
    assert pathlib.Path("new/empty").is_dir()


def test_broken_weights_do_not_replace_good_ones(monkeypatch):
    assert main([*FIT, "--out", "r"]) == 0
    run = open_run("r")
    good = run.state.read_bytes()
    loss = FlowMatching.loss
    monkeypatch.setattr(
        FlowMatching, "loss", lambda self, network, example: loss(self, network, example) * float("nan")
    )
    with pytest.raises(InputError, match="lower learning rate"):
        fit(config_of(FitConfig, resume=True, out="r"), change=small(6))
    assert run.state.read_bytes() == good


def test_resumed_run_of_own_code_keeps_its_fields():
    pathlib.Path("mine.py").write_text(
        "from feller import Affine, FlowMatching, Recipe, TrainConfig\n"
        "from feller.networks.mlp import MLP\n"
        "def own(data, size):\n"
        "    objective = FlowMatching(Affine(), data.modality.space())\n"
        "    train = TrainConfig(batch_size=16, minutes=60.0)\n"
        "    return Recipe(architecture=MLP(width=8, depth=1), objective=objective, train=train)\n"
    )
    words = ["--recipe", "mine.py:own", "--out", "r"]
    assert main(["fit", "example:moons", *words, "--steps", "4", "--train.lr", "1e-4"]) == 0
    assert main(["fit", "--resume", *words]) == 0
    recipe = json.loads(pathlib.Path("r/recipe.json").read_text())["recipe"]
    assert recipe["train"]["steps"] == 4
    assert recipe["train"]["lr"] == 1e-4


def test_resumed_run_keeps_its_path():
    assert main([*FIT, "--out", "r"]) == 0
    with pytest.raises(UsageError, match="can change only"):
        fit(config_of(FitConfig, resume=True, out="r"), change=lambda recipe: replace(recipe, held_out=0.5))


@pytest.mark.parametrize(
    "words",
    [
        ("--longest", "9"),
        ("--size", "base"),
        ("--seed", "5"),
        *(pytest.param(words, marks=pytest.mark.slow) for words in (("--recipe", "images"), ("--space", "torus"))),
    ],
)
def test_what_a_resumed_run_was_asked_for_stays(words, capsys):
    assert main([*FIT, "--out", "r"]) == 0
    assert main(["fit", "--resume", "--out", "r", *words]) == 2
    assert f"was fitted with {words[0].removeprefix('--')}" in capsys.readouterr().err


@pytest.mark.slow
def test_previews_are_written_and_change_nothing(monkeypatch):
    assert main([*FIT, "--out", "plain"]) == 0
    monkeypatch.setattr("feller.training.callbacks.CHECKPOINT_SECONDS", 0.0)
    assert main([*FIT, "--out", "seen"]) == 0
    assert open_run("seen").preview.is_file()
    plain, seen = (load_tensors(open_run(name).weights)[0] for name in ("plain", "seen"))
    assert all(torch.equal(plain[name], seen[name]) for name in plain)
