"""Models of user networks, saved as runs."""

import copy
import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import feller
from feller.app.cli import main
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from tests.errors import refuses

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 2))
        self.null_values = {"label": 2}

    def forward(self, x, t, given):
        label = nn.functional.one_hot(given["label"], 3)[:, :2].float()
        return self.layers(torch.cat([x, t[:, None], label], 1))


class Wide(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x, t):
        return self.layer(x)


def wide():
    return Wide(3)


class Counting(nn.Module):
    made = 0

    def __init__(self):
        super().__init__()
        Counting.made += 1
        self.layer, self.scale = nn.Linear(2, 2), float(Counting.made)

    def forward(self, x, t):
        return self.scale * self.layer(x)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_networks.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    yield importlib.import_module("own_networks")
    sys.modules.pop("own_networks", None)


def trained(own):
    """Return a model after some steps of a plain loop, as the averaged weights have it."""
    objective = feller.FlowMatching(
        feller.Affine(), feller.Euclidean((2,)), coupling=feller.ClassConditional(), cond_dropout=0.2
    )
    network, draws, data = own.Net(), Rng(0), feller.read("example:moons")
    optimizer, average = torch.optim.AdamW(network.parameters(), lr=1e-3), torch.optim.swa_utils.AveragedModel(network)
    label = (data.values[:, 0] > 0).long()
    for step in range(3):
        batch = {"x_1": data.values[:64].float(), "given": {"label": label[:64]}}
        objective.loss(network, objective.draw(batch, draws.step(step), network)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
    return feller.Model(average, objective, data=feller.points(["x", "y"], ["left", "right"]))


def test_commands_open_a_saved_model(own, capsys):
    model = trained(own)
    run = model.save("runs/mine")
    again = feller.load_model(run)
    drawn = model.sample(5, given={"label": "right"}, guidance=2.0)
    assert torch.equal(drawn.values, again.sample(5, given={"label": "right"}, guidance=2.0).values)
    sys.modules.pop("own_networks")
    code = ("--code", "own_networks.py")
    assert (
        main(["sample", "runs/mine", *code, "-n", "5", "--given", "label=right", "--guidance", "2", "--out", "s.csv"])
        == 0
    )
    assert main(["evaluate", "runs/mine", *code, "--data", "labelled.csv", "--json"]) == 1  # no such file
    rows = feller.read("example:moons").values[:200]
    lines = [f"{x},{y},{'right' if x > 0 else 'left'}" for x, y in rows.tolist()]
    pathlib.Path("labelled.csv").write_text("\n".join(["x,y,label", *lines]) + "\n")
    capsys.readouterr()
    assert main(["evaluate", "runs/mine", *code, "--data", "labelled.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["energy"] >= 0
    assert main(["export", "runs/mine", *code, "--to", "torch-export"]) == 0
    assert main(["cite", "runs/mine", *code]) == 0
    assert main(["fit", "--resume", "--recipe", "own_networks.py:Net", "--out", "runs/mine", "--steps", "2"]) == 2


def test_recipe_record(own):
    model = trained(own)
    record = json.loads(model.save("runs/mine").recipe.read_text())["recipe"]
    assert set(record) == {"architecture", "objective", "sampling"}
    assert record["objective"]["coupling"]["is"] == "ClassConditional"
    assert record["objective"]["cond_dropout"] == 0.2
    law = dataclasses.replace(model.objective, time_distribution=feller.LogitNormal(), null={"label": 2})
    again = feller.Model(model.network.inner, law, data=model.spec.modality)
    record = json.loads(again.save("runs/again").recipe.read_text())["recipe"]
    assert (record["objective"]["time_distribution"]["is"], record["objective"]["null"]) == (
        "LogitNormal",
        {"label": 2},
    )
    alone = feller.Model(own.wide(), data=(2,))
    assert alone.objective is None
    assert "objective" not in json.loads(alone.save("runs/alone", make=own.wide).recipe.read_text())["recipe"]


def test_classes_without_record(own):
    class Early(feller.TimeDistribution):
        def quantile(self, u):
            return u**1.5

    model = trained(own)
    plain = dataclasses.replace(model.objective, time_distribution=Early())
    with refuses(InputError, argument="Early"):
        feller.Model(model.network.inner, plain, data=model.spec.modality, null={"label": 2}).save("runs/mine")
    assert not pathlib.Path("runs/mine").exists()


def test_held_out_data(own, capsys):
    model, code = trained(own), ("--code", "own_networks.py", "-n", "60", "--json")
    for name, rows in (("train", slice(0, 300)), ("test", slice(300, 400))):
        values = feller.read("example:moons").values[rows].tolist()
        lines = [f"{x},{y},{'right' if x > 0 else 'left'}" for x, y in values]
        pathlib.Path(f"{name}.csv").write_text("\n".join(["x,y,label", *lines]) + "\n")

    def judged(run, *words):
        assert main(["evaluate", run, *code, *words]) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert not {"steps", "seconds"} & told.keys()
        assert "train" not in json.loads(pathlib.Path(told["report"]).with_suffix(".json").read_text())["settings"]
        return told

    model.save("runs/whole", data="train.csv")
    told = judged("runs/whole")
    assert (told["compared_with"], told["energy_floor"]) == ("training data", None)
    model.save("runs/apart", data="train.csv", test="test.csv")
    told = judged("runs/apart")
    assert told["compared_with"] == "held-out data"
    assert told["energy_floor"] > 0
    model.save("runs/unknown")
    assert main(["evaluate", "runs/unknown", *code]) == 1
    assert judged("runs/unknown", "--data", "test.csv")["compared_with"] == "test.csv"


@pytest.mark.parametrize(
    ("places", "argument"),
    [
        ({"data": "nope.npz"}, "data"),
        ({"data": "example:nope"}, "data"),
        ({"data": "example:moons", "test": "nope.csv"}, "test"),
        ({"test": "own_networks.py"}, "data"),
    ],
)
def test_unreadable_data(own, places, argument):
    with refuses(UsageError, argument=argument):
        trained(own).save("runs/mine", **places)


def test_load_needs_the_code_file(own, monkeypatch):
    trained(own).save("runs/mine")
    from feller.core.serialization import CHOSEN, USER_FUNCTIONS

    USER_FUNCTIONS.pop("Net")
    for name in CHOSEN:
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(InputError):
        feller.load_model("runs/mine")
    assert not [path for path in (feller.open_run("runs/mine")).path.iterdir() if path.suffix in (".pt", ".py", ".pkl")]


def test_architecture_needs_no_code_file(own):
    network = feller.MLP(width=8, depth=1).build((2,), {}, Rng(0))
    nn.init.normal_(next(iter(network.parameters())))
    model = feller.Model(network, data=(2,))
    with pytest.raises(UsageError):
        model.save("runs/mine")
    model.save("runs/mine", make=feller.MLP(width=8, depth=1))
    assert torch.equal(feller.load_model("runs/mine").sample(4).values, model.sample(4).values)
    assert main(["sample", "runs/mine", "-n", "4", "--out", "four.npz"]) == 0
    again = feller.load_model("runs/mine")
    again.save("runs/again")
    assert load_file("runs/again/average.safetensors").keys() == load_file("runs/mine/average.safetensors").keys()


def test_networks_that_cannot_be_rebuilt(own):
    model = feller.Model(own.Wide(3), data=(2,))
    with pytest.raises(UsageError):
        model.save("runs/mine")
    model.save("runs/mine", make=own.wide)
    with pytest.raises(UsageError):
        model.save("runs/mine", make=own.wide)  # it is there
    model.save("runs/mine", make=own.wide, overwrite=True)
    with pytest.raises(UsageError):
        model.save("runs/other", make=own.Net)
    with pytest.raises(UsageError):
        feller.Model(own.Counting(), data=(2,)).save("runs/other")  # the same weights, another answer
    with pytest.raises(UsageError):
        feller.Model(lambda x, t: -x, data=(2,)).save("runs/other")
    with pytest.raises(UsageError):
        feller.Model(copy.deepcopy(model.network.inner), data=(2,)).save("runs/other", make=lambda: own.Wide(3))
    assert not feller.open_run("runs/mine").path.with_name("other").exists()


def test_a_network_of_the_running_script_serves_this_process_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Here(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = nn.Linear(2, width)

        def forward(self, x, t):
            return self.layer(x)

    model = feller.Model(Here(2), feller.FlowMatching(feller.Affine(), feller.Euclidean((2,))))
    run = feller.load(model).folder
    assert torch.equal(feller.load(run.path).model.network.inner.layer.weight, model.network.inner.layer.weight)
    steered = feller.steer(model, reward=lambda x: x[:, 0], n=4, steps=2, out="steered.npz")
    assert len(steered.samples) == 4
    with pytest.raises(UsageError):
        model.save("saved")
    assert not pathlib.Path("saved").exists()
    code = f"import feller; feller.load({str(run.path)!r}).model"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "InputError" in found.stderr
    assert "memory:Here" in found.stderr
