"""`feller import`: a run around somebody's network, whose code runs only where the caller names it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from feller.app.cli import main

CODE = """
import pathlib

import torch
from torch import nn

pathlib.Path("executed").touch()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x, t):
        return self.shift + 0 * x


def net():
    return Net()


def backwards():
    return lambda x, t: -torch.ones_like(x)


def wrong():
    return 3


def writes():
    return lambda x, t: x.neg_()


def noisy():
    return lambda x, t: torch.randn_like(x)


def centred():
    return lambda x, t: x - x.mean(0)


def whole():
    return lambda x, t: x.long()


def ends():
    raise SystemExit(0)


def ends_later():
    def network(x, t):
        raise SystemExit

    return network


def full():
    return torch.empty(2**60)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    shift = torch.tensor([3.0, -1.0])
    for name, weights in {
        "w": shift,
        "nan": shift / 0 * 0,
        "cplx": shift.to(torch.complex64),
        "int": shift.long(),
    }.items():
        save_file({"shift": weights}, str(tmp_path / f"{name}.safetensors"))
    return tmp_path


def brought(*words):
    return main(["import", *words, "--out", "runs/mine"])


def test_weights_that_the_code_made_are_told_of(here, capsys):
    told = "its weights are those of mine.py:net after construction"
    assert brought("mine.py:net", "--modality", "points:x,y") == 0
    assert told in capsys.readouterr().err.replace("\n", " ")
    assert brought("mine.py:net", "--weights", "w.safetensors", "--modality", "points:x,y", "--overwrite") == 0
    assert "untrained" not in capsys.readouterr().err
    assert brought("mine.py:backwards", "--modality", "points:x,y", "--overwrite") == 0  # a plain function has none
    assert "untrained" not in capsys.readouterr().err


def test_a_network_with_its_weights_samples_steers_and_is_exported(here, capsys):
    assert brought("mine.py:net", "--weights", "w.safetensors", "--modality", "points:x,y") == 0
    assert main(["sample", "runs/mine", "--code", "mine.py", "-n", "400", "--out", "drawn.npz"]) == 0
    drawn = np.load("drawn.npz")
    assert drawn["columns"].tolist() == ["x", "y"]
    # normal noise moved by the shift: five standard errors of 0.05
    assert np.abs(drawn["samples"].mean(0) - [3, -1]).max() < 0.25
    reward = "def far(x):\n    return -(x - 9).square().sum(1)\n"
    (here / "reward.py").write_text(reward)
    words = ("--reward", "reward.py:far", "-n", "2", "--steps", "3", "--out", "steered.npz", "--json")
    assert main(["steer", "runs/mine", "--code", "mine.py", *words]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["reward"] > found["reward_before"]
    assert main(["export", "runs/mine", "--code", "mine.py", "--to", "torch-export", "--out", "mine.pt2"]) == 0
    (v,) = torch.export.load("mine.pt2").module()(torch.zeros(3, 2), torch.zeros(3))
    assert torch.equal(v, torch.tensor([[3.0, -1.0]]).expand(3, 2))


def test_opening_such_a_run_executes_nothing_of_its_writer(here, capsys, monkeypatch):
    assert brought("mine.py:net", "--modality", "points:2") == 0
    (here / "executed").unlink()
    import sys

    from feller.core.serialization import USER_FUNCTIONS

    for name in [name for name in sys.modules if name.startswith("feller_code_")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("net", "Net", "backwards", "wrong"):
        USER_FUNCTIONS.pop(name, None)
    capsys.readouterr()
    assert main(["sample", "runs/mine", "-n", "2"]) == 2
    assert "--code mine.py" in capsys.readouterr().err
    assert not (here / "executed").exists()
    (here / "mine.py").write_text(CODE + "\n# another\n")
    assert main(["sample", "runs/mine", "-n", "2", "--code", "mine.py"]) == 0
    assert "has changed" in capsys.readouterr().err


def test_it_is_judged_and_tuned_by_the_data_that_it_learned_from(here, monkeypatch, capsys):
    points = np.random.default_rng(0).normal([3, -1], 1, (200, 2))
    np.savetxt("points.csv", points, delimiter=",", header="x,y", comments="")
    modality = ("--modality", "points:2", "--weights", "w.safetensors")
    assert brought("mine.py:net", *modality, "--data", "points.csv") == 0
    assert main(["evaluate", "runs/mine", "--code", "mine.py", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["energy"] < 0.3  # it is some 3 where the weights are not read
    page, told = (here / "runs/mine/report.html").read_text(), json.loads((here / "runs/mine/report.json").read_text())
    assert told["command"] == f"feller import mine.py:net --data points.csv {' '.join(modality)} --out runs/mine"
    assert "samples of the network of mine.py:net" in page
    assert "feller fit" not in page
    (here / "reward.py").write_text("def right(x):\n    return x[:, 0]\n")
    tuned = ("--reward", "reward.py:right", "--steps", "2", "--train.batch-size", "8", "--objective.steps", "4")
    assert main(["tune", "runs/mine", "--code", "mine.py", *tuned, "--out", "runs/tuned"]) == 0


def test_a_velocity_that_points_to_the_noise_is_turned(here):
    assert brought("mine.py:backwards", "--modality", "points:2", "--times", "1", "0") == 0
    assert main(["sample", "runs/mine", "--code", "mine.py", "-n", "400", "--out", "drawn.npz"]) == 0
    assert np.abs(np.load("drawn.npz")["samples"].mean(0) - 1).max() < 0.25


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("mine.py:net",), 2, "--modality"),
        (("mine.py:net", "--modality", "points:0"), 2, "points:2"),
        (("mine.py:net", "--modality", "points:3"), 2, "found an error"),
        (("mine.py:wrong", "--modality", "points:2"), 2, "it returned int"),
        (("mine.py:nett", "--modality", "points:2"), 2, "Did you mean 'net'"),
        (("mine.py:net", "--modality", "points:2", "--predicts", "flow"), 2, "path: expected one of"),
        (("mine.py:net", "--modality", "points:2", "--times", "1"), 2, "--times: expected two"),
        (("mine.py:net", "--modality", "points:a,b", "--data", "example:moons"), 2, "columns x, y"),
        (("mine.py:net", "--modality", "points:2", "--data", "example:digits"), 2, "has pictures"),
        (("mine.py:net", "--modality", "points:2", "--null", "3"), 2, "Name the classes"),
        (("mine.py:net", "--modality", "points:2", "--weights", "w.pt"), 1, "a .safetensors file"),
        (
            ("mine.py:backwards", "--modality", "points:2", "--weights", "w.safetensors"),
            2,
            "did not return a torch.nn.Module",
        ),
        (("mine.py:net", "--modality", "points:2", "--weights", "nan.safetensors"), 2, "answers with nan"),
        (
            ("mine.py:net", "--modality", "points:2", "--weights", "cplx.safetensors"),
            1,
            "contains complex numbers for shift",
        ),
        (
            ("mine.py:net", "--modality", "points:2", "--weights", "int.safetensors"),
            1,
            "contains whole numbers for shift",
        ),
        (("mine.py:net", "--modality", "images:99999x99999"), 2, "at most 16,777,216 values"),
        (("mine.py:net", "--modality", f"images:8x{'9' * 5000}"), 2, "at most 16,777,216 values"),
        (("mine.py:net", "--modality", f"points:{'9' * 5000}"), 2, "at most 16,777,216 values"),
        (("mine.py:net", "--modality", f"images:8x8/{'9' * 5000}"), 2, "images:28x28"),
        (("mine.py:net", "--modality", "points:2", "--classes", "9" * 12), 2, "--classes: expected at most 1,000,000"),
        (("mine.py:writes", "--modality", "points:2"), 2, "writes into the state x"),
        (("mine.py:noisy", "--modality", "points:2"), 2, "asked the same a second time"),
        (("mine.py:centred", "--modality", "points:2"), 2, "when others are beside it"),
        (("mine.py:whole", "--modality", "points:2"), 2, "whole numbers (torch.int64)"),
        (("mine.py:ends", "--modality", "points:2"), 1, "in ends: it ends the program (SystemExit: 0)"),
        (("mine.py:ends_later", "--modality", "points:2"), 1, "in network: it ends the program (SystemExit)"),
        (("ends.py:net", "--modality", "points:2"), 1, "does not run: line 2: it ends the program (SystemExit: 0)"),
        (("mine.py:full", "--modality", "points:2"), 1, "out of memory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(here, capsys, words, status, said):
    assert brought(*words) == status
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (here / "runs" / "mine" / "model.json").exists()


def test_a_file_that_ends_the_program_does_not_end_a_sampling_as_if_all_were_well(here, capsys):
    assert brought("mine.py:net", "--modality", "points:2") == 0
    assert main(["sample", "runs/mine", "--code", "ends.py", "-n", "2", "--json"]) == 1
    told = capsys.readouterr()
    assert "user code exits the program (SystemExit: 0)" in told.err
    assert not told.out


def test_weights_of_another_precision_are_read(here):
    save_file({"shift": torch.tensor([3.0, -1.0], dtype=torch.float16)}, str(here / "half.safetensors"))
    assert brought("mine.py:net", "--weights", "half.safetensors", "--modality", "points:2") == 0
