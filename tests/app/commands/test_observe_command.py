"""feller steer --observe: inverse problems."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.workflows.steering.measurements import parse_operator
from feller.core.errors import InputError
from feller.data.loading.dataset_reader import read
from tests.app.asked import refuse, run

OPERATORS = """
def shift(values): return values.roll(1, 3)
def back(values): return values.roll(-1, 3)
def square(values): return values.square()
def flat(values): return values.flatten(1).round().detach()
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Return a folder with two unseen digits, measurements of them and masks."""
    folder = tmp_path_factory.mktemp("seen")
    values = read("example:digits/test").values[:2, 0].numpy()
    hole = np.zeros((8, 8), np.uint8)
    hole[2:6, 2:6] = 255
    np.savez(folder / "true.npz", samples=values, levels=16)
    np.save(folder / "pooled.npy", values.reshape(2, 4, 2, 4, 2).mean((2, 4)))
    np.save(folder / "hole.npy", hole > 0)
    np.save(folder / "none.npy", np.zeros((8, 8), bool))
    Image.fromarray(hole).save(folder / "hole.png")
    Image.fromarray(hole[:4]).save(folder / "small.png")
    Image.fromarray((values[0] * (255 / 16)).round().astype(np.uint8)).save(folder / "one.png")
    (folder / "o.py").write_text(OPERATORS)
    return folder


def samples(file):
    with np.load(file) as arrays:
        return arrays["samples"].astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["source", "pigdm", "ot-ode", "dps", "red-diff"])
def test_inpainting_keeps_the_measured_pixels(digits, seen, tmp_path, method):
    words = ("--observe", seen / "true.npz", "--operator", "inpaint", "--mask", seen / "hole.png", "-n", 2)
    found = run("steer", digits, *words, "--method", method, "--out", tmp_path / "a.npz")
    assert (found["n"], found["observations"]) == (4, 2)
    assert found["residual"] < 1.5  # of 16 levels; unrelated digits differ by about 6
    apart = samples(tmp_path / "a.npz") - samples(seen / "true.npz").repeat(2, 0)
    apart[:, 2:6, 2:6] = 0
    assert np.sqrt(np.square(apart).sum((1, 2)).mean() / 48) == pytest.approx(found["residual"], abs=0.4)


def test_particles_report_their_effective_sample_size(digits, seen, tmp_path):
    words = ("--observe", seen / "pooled.npy", "--operator", "pool=2", "--noise", 1, "--method", "smc")
    sizes = ("--particles", 8, "--steps", 6)
    found = run("steer", digits, *words, *sizes, "-n", 2, "--out", tmp_path / "a.npz")
    assert (found["n"], found["observations"], found["calls"]) == (4, 2, 6)
    assert len(found["ess_steps"]) == 6
    assert 1 <= found["ess_least"] <= found["ess_end"] <= 8
    assert found["residual"] < found["residual_before"]
    every = run("steer", digits, *words, *sizes, "--out", tmp_path / "b.npz")
    assert every["n"] == 16
    assert np.array_equal(samples(tmp_path / "b.npz")[::4], samples(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("--method", "smc"), {"argument": "noise", "found": "0"}),
        (("--method", "smc", "--noise", 1, "--particles", 1), {"argument": "particles", "found": "1"}),
        (("--method", "smc", "--noise", 1, "--particles", 4, "-n", 5), {"argument": "n", "found": "5"}),
        (("--method", "dps", "--particles", 4), {"argument": "particles"}),
        (("--method", "smc", "--noise", 1, "--scale", 2), {}),
    ],
)
def test_particles_that_are_refused(digits, seen, tmp_path, words, fields):
    observed = ("--observe", seen / "pooled.npy", "--operator", "pool=2", "--out", tmp_path / "a.npz")
    refuse("steer", digits, *observed, *words, **fields)


@pytest.mark.slow
def test_images_and_arrays_agree(digits, seen, tmp_path):
    words = ("steer", digits, "--operator", "inpaint", "-n", 1, "--method", "pigdm", "--seed", 4)
    one = run(*words, "--observe", seen / "one.png", "--mask", seen / "hole.png", "--out", tmp_path / "a.npz")
    two = run(*words, "--observe", seen / "true.npz", "--mask", seen / "hole.npy", "--out", tmp_path / "b.npz")
    assert (one["n"], two["n"]) == (1, 2)
    assert np.abs(samples(tmp_path / "a.npz")[0] - samples(tmp_path / "b.npz")[0]).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operator", "method"),
    [
        ("pool=2", "pigdm"),
        ("blur=0.5", "ot-ode"),
        ("unknown-blur", "source"),
        ("sums=20", "pigdm"),
        ("magnitudes", "dps"),
        ("o.py:shift,back", "pigdm"),
    ],
)
def test_residual_of_operators(digits, seen, tmp_path, operator, method):
    """Measurements of the operator are explained better than by unconditional samples."""
    text = operator.replace("o.py", str(seen / "o.py"))
    with torch.no_grad():
        measured = parse_operator(text, None, (1, 8, 8))(torch.from_numpy(samples(seen / "true.npz")).float()[:, None])
    np.save(tmp_path / "m.npy", measured.numpy())
    words = ("--observe", tmp_path / "m.npy", "--operator", text, "--method", method)
    found = run("steer", digits, *words, "-n", 1, "--out", tmp_path / "a.npz")
    assert found["residual"] < 0.5 * measured.flatten(1).var(1).mean().sqrt().item()
    assert ("unknown" in found) == (operator == "unknown-blur")


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("pooled.npy --operator inpaint --mask hole.png", {"kind": InputError, "file": "pooled.npy"}),
        ("pooled.npy --operator pool=3", {"remedy": "Use a factor that divides both sides"}),
        ("pooled.npy --operator pool=2.5", {"place": "--operator pool=2.5"}),
        ("pooled.npy --operator pool=x", {"place": "--operator pool=x"}),
        ("one.png --operator inpain", {"argument": "operator", "remedy": "Did you mean 'inpaint'?"}),
        ("one.png --operator inpaint", {}),
        ("one.png --operator blur --mask hole.png", {"argument": "mask", "found": "'blur'"}),
        ("one.png --operator inpaint --mask small.png", {"kind": InputError, "file": "small.png"}),
        ("one.png --operator inpaint --mask none.npy", {"kind": InputError, "file": "none.npy"}),
        ("one.png --operator grey", {}),
        ("one.png --operator blur --noise -1", {"argument": "noise", "found": "-1"}),
        ("one.png --operator blur --method pigmd", {"argument": "method", "remedy": "Did you mean 'pigdm'?"}),
        ("one.png --operator blur --scale 2", {"remedy": "Leave it out"}),
        ("one.png --operator unknown-blur --method pigdm", {"remedy": "Use the method `source`"}),
        ("one.png --operator magnitudes --method pigdm", {"remedy": "Use `dps` or `source`"}),
        ("one.png --operator o.py:shift,shift", {"kind": InputError}),
        ("one.png --operator o.py:square,back", {"kind": InputError}),
        ("one.png --operator o.py:flat", {"kind": InputError}),
        ("o.py --operator blur", {}),
        ("gone.npy --operator blur", {"kind": InputError, "file": "gone.npy", "found": "none"}),
    ],
)
def test_refused_arguments(digits, seen, tmp_path, monkeypatch, words, fields):
    monkeypatch.chdir(seen)
    refuse("steer", digits, "--observe", *words.split(), "--out", tmp_path / "out.npz", **fields)


@pytest.mark.slow
def test_molecules_cannot_be_observed(molecules, seen):
    refuse("steer", molecules, "--observe", seen / "one.png", "--operator", "blur")


def test_report_names_the_assumptions(digits, seen, tmp_path):
    words = ("--observe", seen / "pooled.npy", "--operator", "pool=2", "-n", 2, "--method", "pigdm")
    found = run("steer", digits, *words, "--out", tmp_path / "a.npz")
    assert found["residual"] < 0.6 * found["residual_before"]
    notes = " ".join(json.loads((digits / "report-steered.json").read_text())["notes"])
    assert [flag for flag in ("--noise 0", "--scale 1", "--given label=") if flag not in notes] == []
    given = ("--noise", 1, "--scale", 2, "--given", "label=3")
    run("steer", digits, *words, *given, "--out", tmp_path / "b.npz")
    assert json.loads((digits / "report-steered.json").read_text())["notes"] == []
