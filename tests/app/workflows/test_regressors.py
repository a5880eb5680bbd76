"""Regressors and classifiers, and rewards of their predictions."""

import csv
import json

import numpy as np
import pytest
import torch

from feller.data.loading.dataset_reader import read
from tests.app.asked import refuse, run

WATER = "O 0 0 {0}\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"
REGRESSOR = ("--recipe", "regressor", "--target")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Return a classifier."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    run("fit", "example:digits", *REGRESSOR, "label", "--steps", 60, "--out", folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Return a folder with a table and a regressor of it."""
    folder = tmp_path_factory.mktemp("rows")
    x = np.random.default_rng(0).normal(size=(300, 2))
    (folder / "t.csv").write_text("\n".join(["a,b,y,z", *(f"{a},{b},{3 * a - b},{a * b}" for a, b in x.tolist())]))
    run("fit", folder / "t.csv", *REGRESSOR, "y", "z", "--steps", 300, "--out", folder / "run")
    return folder


@pytest.fixture(scope="module")
def model(rows):
    """Return the run of a model of the columns b and a."""
    x = np.random.default_rng(1).normal(size=(100, 2))
    (rows / "ab.csv").write_text("\n".join(["b,a", *(f"{a},{b}" for a, b in x.tolist())]))
    words = ("--steps", 150, "--size", "tiny", "--sampling.nfe", 8)
    run("fit", rows / "ab.csv", *words, "--out", rows / "model")
    return rows / "model"


def test_classifier_is_compared_with_the_majority_class(digits):
    numbers = run("evaluate", digits)
    assert numbers["accuracy"] > 0.85
    assert 0.1 <= numbers["accuracy_constant"] < 0.12
    record = json.loads((digits / "report.json").read_text())
    assert "accuracy" in record["verdict"].lower()
    assert "--target label" in record["command"]
    assert any("--reward" in command for command, _ in record["next_steps"])
    page = (digits / "report.html").read_text()
    assert "<h2>Predictions</h2>" in page
    assert "<h2>Samples</h2>" not in page


def test_regressor_is_compared_with_the_mean(rows):
    (rows / "other.csv").write_text("z,y,b,a\n2,5,1,2\n-3,10,-1,3\n")
    numbers = run("evaluate", rows / "run", "--data", rows / "other.csv")
    assert numbers["mae_y"] < 0.3 * numbers["mae_constant_y"]
    assert {"r2_y", "mae_z", "mae_constant_z", "r2_z"} <= numbers.keys()
    assert numbers["compared_with"] == str(rows / "other.csv")
    assert (rows / "run" / "report-other-csv.html").is_file()


def test_regressor_generates_no_samples(digits):
    refuse("sample", digits, "-n", 1)
    refuse("steer", digits, "-n", 1, "--reward", "ink")
    refuse("evaluate", digits, "--samples", "x.npz", remedy="Give data with --data instead")


def test_resumed_regressor_keeps_its_target(rows):
    resume = ("fit", "--resume", "--out", rows / "run")
    assert run(*resume, "--steps", 320)["steps"] == 320
    refuse(*resume, "--target", "z", "--steps", 330, file=str(rows / "run"))


@pytest.mark.slow
def test_rewards_of_columns(rows, model, tmp_path):
    """Samples of a and b, steered to 3 a - b = 1 and a small product."""
    out, rewards = tmp_path / "s.npz", (f"{rows}/run:y == 1", f"0.1*{rows}/run:z<=0.5")
    numbers = run("steer", model, "-n", 4, "--steps", 8, "--nfe", 8, "--reward", *rewards, "--out", out)
    assert numbers["reward"] > -0.05 > numbers["reward_before"]
    arrays = np.load(out)
    a, b = (arrays["samples"][:, arrays["columns"].tolist().index(name)] for name in "ab")
    assert np.abs(3 * a - b - 1).mean() < 1  # the network is small; before, it is 2.5


@pytest.mark.slow
def test_rewards_of_classes(rows, model, tmp_path):
    """The class says whether a is above 0.5."""
    x = np.random.default_rng(2).normal(size=(300, 1))
    labels = [f"{a},{'high' if a > 0.5 else 'low'}" for (a,) in x]
    (tmp_path / "c.csv").write_text("\n".join(["a,label", *labels]))
    classifier = tmp_path / "run"
    run("fit", tmp_path / "c.csv", *REGRESSOR, "label", "--steps", 200, "--out", classifier)
    steer = ("steer", model, "-n", 4, "--steps", 6, "--nfe", 8, "--out", tmp_path / "s.npz", "--overwrite", "--reward")
    numbers = run(*steer, f"{classifier}=high")
    assert numbers["reward_before"] < -1  # that of four samples of which one in three is high
    assert numbers["reward"] > 0.5 * numbers["reward_before"]
    for reward in (classifier, f"{classifier}=x", f"{rows}/run"):
        refuse(*steer, reward, argument="reward")
    refuse(*steer, model)


def test_molecules(tmp_path):
    file, folder = tmp_path / "w.xyz", tmp_path / "run"
    file.write_text("".join(f"3\nheight={z} id=w{z}\n{WATER.format(z)}" for z in np.linspace(0.1, 0.3, 24)))
    fit = ("fit", file, "--size", "tiny", "--steps", 3)
    assert run(*fit, "--target", "height", "--out", folder)["mae_constant"] > 0
    for words, fields in (
        (("--target", "high"), {"argument": "target", "remedy": "Did you mean 'height'?"}),
        (("--recipe", "regressor"), {}),
        (("--recipe", "molecules", "--target", "height"), {"argument": "recipe"}),
        (("--target", "height", "--start-from", folder), {"argument": "start_from"}),
    ):
        refuse(*fit, *words, "--out", tmp_path / "x", **fields)


@pytest.mark.slow
def test_crystals(tmp_path):
    data = read("example:perovskites").subset(torch.arange(24))
    data.modality.write(data.values, data.given, tmp_path / "plain.csv")
    with (tmp_path / "plain.csv").open(newline="") as plain, (tmp_path / "c.csv").open("w", newline="") as told:
        names, *cells = csv.reader(plain)
        csv.writer(told).writerows([[*names, "energy"], *([*row, -1 - i] for i, row in enumerate(cells))])
    short = ("--size", "tiny", "--steps", 3)
    numbers = run("fit", tmp_path / "c.csv", *REGRESSOR, "energy", *short, "--out", tmp_path / "run")
    assert numbers["mae_constant"] > 1
    run("fit", tmp_path / "plain.csv", *short, "--out", tmp_path / "model")
    steer = ("-n", 2, "--steps", 2, "--given", "element=SrZrO3", "--nfe", 4, "--reward", f"{tmp_path / 'run'} >= 0")
    numbers = run("steer", tmp_path / "model", *steer, "--out", tmp_path / "s.npz")
    assert numbers["reward"] >= numbers["reward_before"]
