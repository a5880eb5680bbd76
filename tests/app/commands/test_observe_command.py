"""feller steer --observe, from the command line."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from feller.app.cli import main

OPERATORS = """
def shift(values): return values.roll(1, 3)
def back(values): return values.roll(-1, 3)
def square(values): return values.square()
def flat(values): return values.flatten(1).round().detach()
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two digits that the model never saw, and what may be known of them."""
    from feller.data.loading.dataset_reader import read

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


def explained(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, float]:
    assert main(["steer", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["source", "pigdm", "ot-ode", "dps", "red-diff"])
def test_holes_are_filled(digits, seen, tmp_path, capsys, method):
    """What was seen is kept, by every method, for each observation."""
    words = ("--observe", seen / "true.npz", "--operator", "inpaint", "--mask", seen / "hole.png", "-n", 2)
    found = explained(capsys, digits, *words, "--method", method, "--out", tmp_path / "a.npz")
    assert (found["n"], found["observations"]) == (4, 2)
    assert found["residual"] < 1.5  # of 16 levels; unrelated digits differ by about 6
    with np.load(tmp_path / "a.npz") as made, np.load(seen / "true.npz") as true:
        apart = made["samples"].astype(float) - true["samples"].repeat(2, 0)
        apart[:, 2:6, 2:6] = 0
        assert np.sqrt(np.square(apart).sum((1, 2)).mean() / 48) == pytest.approx(found["residual"], abs=0.4)
    assert "Posterior mean" in (digits / "report-steered.html").read_text()


@pytest.mark.slow
def test_a_picture_and_an_array_say_the_same(digits, seen, tmp_path, capsys):
    words = ("--operator", "inpaint", "-n", 1, "--method", "pigdm", "--seed", 4)
    one = explained(
        capsys, digits, *words, "--observe", seen / "one.png", "--mask", seen / "hole.png", "--out", tmp_path / "a.npz"
    )
    two = explained(
        capsys, digits, *words, "--observe", seen / "true.npz", "--mask", seen / "hole.npy", "--out", tmp_path / "b.npz"
    )
    assert (one["n"], two["n"]) == (1, 2)
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert np.abs(a["samples"][0].astype(int) - b["samples"][0]).max() <= 1


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
def test_operators_by_name(digits, seen, tmp_path, capsys, operator, method):
    """Measurements that the operator itself made are explained better than by samples that know nothing of them."""
    import torch

    from feller.app.workflows.steering.measurements import parse_operator

    words = operator.replace("o.py", str(seen / "o.py"))
    with np.load(seen / "true.npz") as true:
        values = torch.from_numpy(true["samples"]).float()[:, None]
    with torch.no_grad():
        measured = parse_operator(words, None, (1, 8, 8))(values)
    np.save(tmp_path / "m.npy", measured.numpy())
    named = ("--observe", tmp_path / "m.npy", "--operator", words, "--method", method)
    found = explained(capsys, digits, *named, "-n", 1, "--out", tmp_path / "a.npz")
    spread = measured.flatten(1).var(1).mean().sqrt().item()
    assert found["residual"] < 0.5 * spread
    assert ("unknown" in found) == (operator == "unknown-blur")


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("--observe pooled.npy --operator inpaint --mask hole.png", 1, "measurements of 2 x 4 x 4"),
        ("--observe pooled.npy --operator pool=3", 2, "divisible by the factor 3"),
        ("--observe pooled.npy --operator pool=2.5", 2, "a whole number"),
        ("--observe pooled.npy --operator pool=x", 2, "a number after the operator's name"),
        ("--observe one.png --operator inpain", 2, "Did you mean 'inpaint'"),
        ("--observe one.png --operator inpaint", 2, "inpaint needs --mask"),
        ("--observe one.png --operator blur --mask hole.png", 2, "--mask: applies to inpaint only"),
        ("--observe one.png --operator inpaint --mask small.png", 1, "a mask of 1 x 4 x 8, but the data are 8 x 8"),
        ("--observe one.png --operator inpaint --mask none.npy", 1, "marks nothing to be filled"),
        ("--observe one.png --operator grey", 2, "RGB"),
        ("--observe one.png --operator blur --noise -1", 2, "--noise: expected at least 0 and finite; found -1"),
        ("--observe one.png --operator blur --method pigmd", 2, "Did you mean 'pigdm'"),
        ("--observe one.png --operator blur --scale 2", 2, "--scale applies to guidance"),
        ("--observe one.png --operator unknown-blur --method pigdm", 2, "`source`"),
        ("--observe one.png --operator magnitudes --method pigdm", 2, "needs a linear operator"),
        ("--observe one.png --operator o.py:shift,shift", 1, "adjoint"),
        ("--observe one.png --operator o.py:square,back", 1, "the operator is not linear"),
        ("--observe one.png --operator o.py:flat", 1, "has no gradient"),
        ("--observe o.py --operator blur", 2, "cannot read measurements or masks"),
        ("--observe gone.npy --operator blur", 1, "gone.npy"),
    ],
)
def test_what_is_refused(digits, seen, tmp_path, capsys, monkeypatch, words, status, told):
    monkeypatch.chdir(seen)
    assert main(["steer", str(digits), *words.split(), "--out", str(tmp_path / "out.npz")]) == status
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_data_that_cannot_be_observed(molecules, seen, capsys):
    assert main(["steer", str(molecules), "--observe", str(seen / "one.png"), "--operator", "blur"]) == 2
    assert "Use a reward" in capsys.readouterr().err


def test_what_was_assumed_stands_on_the_page(digits, seen, tmp_path, capsys):
    words = ("--observe", seen / "pooled.npy", "--operator", "pool=2", "-n", 2, "--method", "pigdm")
    found = explained(capsys, digits, *words, "--out", tmp_path / "a.npz")
    assert found["residual"] < 0.6 * found["residual_before"]
    report = json.loads((digits / "report-steered.json").read_text())
    assert "the measurements are assumed exact (--noise 0)" in report["notes"]
    assert "--scale 1 was chosen, the default of pigdm" in report["notes"]
    assert any(note.startswith("label ") and "--given label=" in note for note in report["notes"])
    assert report["verdict"].startswith("Residual")
    explained(capsys, digits, *words, "--noise", 1, "--scale", 2, "--given", "label=3", "--out", tmp_path / "b.npz")
    assert json.loads((digits / "report-steered.json").read_text())["notes"] == []
