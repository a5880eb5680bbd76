"""`feller import`: runs of user networks, whose code runs only if named."""

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


def noisy():
    return lambda x, t: torch.randn_like(x)


def ends():
    raise SystemExit(0)


def ends_later():
    def network(x, t):
        raise SystemExit

    return network


def full():
    return torch.empty(2**60)
"""


DTYPES = ("cplx.safetensors", "int.safetensors")
"""Weights of the wrong kind of numbers."""


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    shift = torch.tensor([3.0, -1.0])
    dtypes = {"cplx": shift.to(torch.complex64), "int": shift.long(), "half": shift.half()}
    for name, weights in {"w": shift, "nan": shift / 0 * 0, **dtypes}.items():
        save_file({"shift": weights}, str(tmp_path / f"{name}.safetensors"))
    return tmp_path


def import_run(*words):
    return main(["import", *words, "--out", "runs/mine"])


def test_note_on_untrained_weights(workdir, capsys):
    told = "its weights are those of mine.py:net after construction"
    for words, noted in (
        (("mine.py:net",), True),
        (("mine.py:net", "--weights", "w.safetensors"), False),
        (
            ("mine.py:backwards",),  # a plain function has no weights
            False,
        ),
    ):
        assert import_run(*words, "--modality", "points:x,y", "--overwrite") == 0
        assert (told in capsys.readouterr().err.replace("\n", " ")) == noted


def test_sample_steer_and_export(workdir, capsys):
    assert import_run("mine.py:net", "--weights", "w.safetensors", "--modality", "points:x,y") == 0
    assert main(["sample", "runs/mine", "--code", "mine.py", "-n", "400", "--out", "drawn.npz"]) == 0
    drawn = np.load("drawn.npz")
    assert drawn["columns"].tolist() == ["x", "y"]
    # normal noise moved by the shift: five standard errors of 0.05
    assert np.abs(drawn["samples"].mean(0) - [3, -1]).max() < 0.25
    reward = "def far(x):\n    return -(x - 9).square().sum(1)\n"
    (workdir / "reward.py").write_text(reward)
    words = ("--reward", "reward.py:far", "-n", "2", "--steps", "3", "--out", "steered.npz", "--json")
    assert main(["steer", "runs/mine", "--code", "mine.py", *words]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["reward"] > found["reward_before"]
    assert main(["export", "runs/mine", "--code", "mine.py", "--to", "torch-export", "--out", "mine.pt2"]) == 0
    (v,) = torch.export.load("mine.pt2").module()(torch.zeros(3, 2), torch.zeros(3))
    assert torch.equal(v, torch.tensor([[3.0, -1.0]]).expand(3, 2))


def test_opening_a_run_does_not_execute_its_code(workdir, capsys, monkeypatch):
    assert import_run("mine.py:net", "--modality", "points:2") == 0
    (workdir / "executed").unlink()
    import sys

    from feller.core.serialization import USER_FUNCTIONS

    for name in [name for name in sys.modules if name.startswith("feller_code_")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("net", "Net", "backwards", "wrong"):
        USER_FUNCTIONS.pop(name, None)
    capsys.readouterr()
    assert main(["sample", "runs/mine", "-n", "2"]) == 2
    assert "--code mine.py" in capsys.readouterr().err
    assert not (workdir / "executed").exists()
    (workdir / "mine.py").write_text(CODE + "\n# another\n")
    assert main(["sample", "runs/mine", "-n", "2", "--code", "mine.py"]) == 0
    assert "has changed" in capsys.readouterr().err


def test_evaluate_and_tune_with_data(workdir, monkeypatch, capsys):
    points = np.random.default_rng(0).normal([3, -1], 1, (200, 2))
    np.savetxt("points.csv", points, delimiter=",", header="x,y", comments="")
    modality = ("--modality", "points:2", "--weights", "w.safetensors")
    assert import_run("mine.py:net", *modality, "--data", "points.csv") == 0
    assert main(["evaluate", "runs/mine", "--code", "mine.py", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["energy"] < 0.3  # it is some 3 where the weights are not read
    page, told = (
        (workdir / "runs/mine/report.html").read_text(),
        json.loads((workdir / "runs/mine/report.json").read_text()),
    )
    assert told["command"] == f"feller import mine.py:net --data points.csv {' '.join(modality)} --out runs/mine"
    assert "feller fit" not in page
    (workdir / "reward.py").write_text("def right(x):\n    return x[:, 0]\n")
    tuned = ("--reward", "reward.py:right", "--steps", "2", "--train.batch-size", "8", "--objective.steps", "4")
    assert main(["tune", "runs/mine", "--code", "mine.py", *tuned, "--out", "runs/tuned"]) == 0


def test_reversed_times(workdir):
    assert import_run("mine.py:backwards", "--modality", "points:2", "--times", "1", "0") == 0
    assert main(["sample", "runs/mine", "--code", "mine.py", "-n", "400", "--out", "drawn.npz"]) == 0
    assert np.abs(np.load("drawn.npz")["samples"].mean(0) - 1).max() < 0.25


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("mine.py:net",), 2),
        (("mine.py:net", "--modality", "points:0"), 2),
        (("mine.py:net", "--modality", "points:3"), 2),
        (("mine.py:wrong", "--modality", "points:2"), 2),
        (("mine.py:nett", "--modality", "points:2"), 2),
        (("mine.py:net", "--modality", "points:2", "--predicts", "flow"), 2),
        (("mine.py:net", "--modality", "points:2", "--times", "1"), 2),
        (("mine.py:net", "--modality", "points:a,b", "--data", "example:moons"), 2),
        (("mine.py:net", "--modality", "points:2", "--data", "example:digits"), 2),
        (("mine.py:net", "--modality", "points:2", "--null", "3"), 2),
        (("mine.py:backwards", "--modality", "points:2", "--weights", "w.safetensors"), 2),
        *((("mine.py:net", "--modality", f"images:{size}"), 2) for size in ("99999x99999", f"8x8/{'9' * 5000}")),
        (("mine.py:net", "--modality", f"points:{'9' * 5000}"), 2),
        (("mine.py:net", "--modality", "points:2", "--classes", "9" * 12), 2),
        (("mine.py:noisy", "--modality", "points:2"), 2),
        (("mine.py:net", "--modality", "points:2", "--weights", "nan.safetensors"), 2),
        *((("mine.py:net", "--modality", "points:2", "--weights", name), 1) for name in ("w.pt", *DTYPES)),
        *(((code, "--modality", "points:2"), 1) for code in ("mine.py:ends", "mine.py:ends_later", "ends.py:net")),
        (("mine.py:full", "--modality", "points:2"), 1),
    ],
)
def test_invalid_imports_exit_with_one_line(workdir, capsys, words, status):
    assert import_run(*words) == status
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (workdir / "runs" / "mine" / "model.json").exists()


def test_code_that_exits_fails_the_command(workdir, capsys):
    assert import_run("mine.py:net", "--modality", "points:2") == 0
    assert main(["sample", "runs/mine", "--code", "ends.py", "-n", "2", "--json"]) == 1
    assert not capsys.readouterr().out


def test_float16_weights(workdir):
    assert import_run("mine.py:net", "--weights", "half.safetensors", "--modality", "points:2") == 0
