"""Damaged runs: no regular files, shapes that no memory holds, weights that are not finite."""

import json
import os
import pathlib

import pytest
import torch

from feller.app.cli import main
from feller.core import serialization
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.core.serialization import read_json
from feller.models.model import load_model
from feller.paths.discrete.token_sampler import TokenSampler
from tests.errors import refuses
from tests.safety.specimen_runs import KINDS, copied, untrained

pytestmark = pytest.mark.portable


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_pipe_folder_or_device_as_recipe(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], make) -> None:
    run = copied(tmp_path / "r")
    run.recipe.unlink()
    make(run.recipe)
    for words in (["sample", str(run.path), "-n", "2", "--out", str(tmp_path / "a.csv")], ["cite", str(run.path)]):
        assert main(words) == 1
        assert str(run.recipe) in capsys.readouterr().err.strip().splitlines()[-1]


def test_json_size_limit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "MAX_JSON_BYTES", 2**20)
    path = tmp_path / "a.json"
    path.write_text(json.dumps("a" * (2**20 - 2)))
    assert len(read_json(path)) == 2**20 - 2
    path.write_text(json.dumps("a" * (2**20 - 1)))
    with refuses(InputError, file=str(path)):
        read_json(path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        *((("architecture", "width"), size) for size in (10**12, 10**30)),
        (("space", "shape"), [10**12, 10**12]),
        (("space", "leaf_spaces", "numbers", "shape"), []),  # not those of the data
    ],
)
def test_invalid_shapes_of_a_model(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], keys: tuple[str, ...], value: object
) -> None:
    run = untrained("table-flow", tmp_path / "r") if "numbers" in keys else copied(tmp_path / "r")
    content = inner = json.loads(run.model.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    run.model.write_text(json.dumps(content))
    (run.path / "recipe.json").write_bytes((copied(tmp_path / "s").recipe).read_bytes())
    assert main(["sample", str(run.path), "-n", "2", "--out", str(tmp_path / "a.csv")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith(f"feller: {run.model}: ")


def damaged(run: Run, number: float) -> Run:
    weights, _ = load_tensors(run.ema_weights)
    for weight in weights.values():
        if weight.is_floating_point():
            weight.view(-1)[0] = number
    save_tensors(run.ema_weights, weights)
    return run


@pytest.mark.parametrize(("kind", "number"), [*((kind, float("nan")) for kind in KINDS), ("table", float("inf"))])
def test_weights_that_are_not_finite(tmp_path: pathlib.Path, kind: str, number: float) -> None:
    run = untrained(kind, tmp_path / "r")
    load_model(run).sample_dataset(2, rng=Rng(0))  # whole, it draws
    with refuses(InputError):
        load_model(damaged(run, number)).sample_dataset(2, rng=Rng(0))


def test_token_sampler_of_nan_logits() -> None:
    u = torch.full((2,), 0.5, dtype=torch.float64)
    logits = torch.tensor([[0.0, -torch.inf, 1.0], [3.0, 1.0, 2.0]])
    assert TokenSampler(temperature=0.0)(logits, u).tolist() == [2, 0]
    logits[1, 1] = torch.nan
    for temperature in (0.0, 1.0):
        with refuses(InputError):
            TokenSampler(temperature=temperature)(logits, u)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "name"), [("text", "a.txt"), ("table-flow", "a.csv")])
def test_diverged_fit(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, recipe: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path(name).write_text(KINDS[recipe][1])
    words = ("--recipe", recipe, "--size", "tiny", "--steps", "1", "--train.batch-size", "4", "--train.lr", "1e12")
    last = []
    for command in (["fit", name, *words, "--out", "r"], ["evaluate", "r"]):
        assert main(command) == 1
        last.append(capsys.readouterr().err.strip().splitlines()[-1])
    assert last[0] == last[1]
