"""From data to a run that tells of them, and from there to samples of another run that are as it tells."""

import csv
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import torch

from feller.app.cli import main
from feller.data.loading.dataset_reader import read

WATER = "O 0 0 {0}\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a classifier."""
    run = tmp_path_factory.mktemp("digits") / "run"
    words = ["fit", "example:digits", "--recipe", "regressor", "--target", "label", "--steps", "60"]
    assert main([*words, "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a regressor of a table, beside the table."""
    folder = tmp_path_factory.mktemp("rows")
    x = np.random.default_rng(0).normal(size=(300, 2))
    lines = [f"{a},{b},{3 * a - b},{a * b}" for a, b in x.tolist()]
    (folder / "t.csv").write_text("\n".join(["a,b,y,z", *lines]))
    words = ["fit", str(folder / "t.csv"), "--recipe", "regressor", "--target", "y", "z", "--steps", "300"]
    assert main([*words, "--out", str(folder / "run")]) == 0
    return folder


def test_a_classifier_is_judged_beside_the_commonest_class(digits, capsys):
    assert main(["evaluate", str(digits), "--json"]) == 0
    numbers = last(capsys)
    assert numbers["accuracy"] > 0.85
    assert 0.1 <= numbers["accuracy_constant"] < 0.12
    record = json.loads((digits / "report.json").read_text())
    assert record["verdict"].lower().partition(": ")[2].startswith("accuracy") or record["verdict"].startswith("Acc")
    assert "--target label" in record["command"]
    assert any("--reward" in command for command, _ in record["next_steps"])
    page = (digits / "report.html").read_text()
    assert "<h2>Predictions</h2>" in page
    assert "<h2>Samples</h2>" not in page  # it draws none


def test_numbers_are_judged_beside_the_mean(rows: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rows / "other.csv").write_text("z,y,b,a\n2,5,1,2\n-3,10,-1,3\n")
    assert main(["evaluate", str(rows / "run"), "--data", str(rows / "other.csv"), "--json"]) == 0
    numbers = last(capsys)
    assert numbers["mae_y"] < 0.3 * numbers["mae_constant_y"]
    assert {"r2_y", "mae_z", "mae_constant_z", "r2_z"} <= numbers.keys()
    assert numbers["compared_with"] == str(rows / "other.csv")
    assert (rows / "run" / "report-other-csv.html").is_file()


def test_it_draws_nothing(digits: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["sample", "-n", "1"], ["steer", "-n", "1", "--reward", "ink"], ["evaluate", "--samples", "x.npz"]):
        assert main([words[0], str(digits), *words[1:]]) == 2
        assert "generates no samples" in capsys.readouterr().err


def test_a_run_goes_on(rows: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--resume", "--out", str(rows / "run"), "--steps", "320", "--json"]) == 0
    assert last(capsys)["steps"] == 320
    assert main(["fit", "--resume", "--out", str(rows / "run"), "--target", "z", "--steps", "330"]) == 2
    assert "was fitted with target" in capsys.readouterr().err


@pytest.fixture(scope="module")
def model(rows: pathlib.Path) -> str:
    """Return the run of a model that draws a and b, in another order."""
    x = np.random.default_rng(1).normal(size=(100, 2))
    (rows / "ab.csv").write_text("\n".join(["b,a", *(f"{a},{b}" for a, b in x.tolist())]))
    words = ["fit", str(rows / "ab.csv"), "--steps", "150", "--size", "tiny", "--out", str(rows / "model")]
    assert main([*words, "--sampling.nfe", "8"]) == 0
    return str(rows / "model")


@pytest.mark.slow
def test_rewards_of_rows(rows, model, tmp_path, capsys):
    """Samples of a and b, steered to 3 a - b = 1 and a small product."""
    run, out = str(rows / "run"), tmp_path / "s.npz"
    words = [
        "steer",
        model,
        "-n",
        "4",
        "--steps",
        "8",
        "--nfe",
        "8",
        "--reward",
        f"{run}:y == 1",
        f"0.1*{run}:z<=0.5",
        "--out",
        str(out),
        "--json",
    ]
    capsys.readouterr()
    assert main(words) == 0
    numbers = last(capsys)
    assert numbers["reward"] > -0.05 > numbers["reward_before"]
    arrays = np.load(out)
    columns = arrays["columns"].tolist()
    told = 3 * arrays["samples"][:, columns.index("a")] - arrays["samples"][:, columns.index("b")]
    assert np.abs(told - 1).mean() < 1  # the network is small; before, it is 2.5


@pytest.mark.slow
def test_rewards_of_classes(rows, model, tmp_path, capsys):
    """The class says whether a is above 0.5."""
    x = np.random.default_rng(2).normal(size=(300, 1))
    (tmp_path / "c.csv").write_text("\n".join(["a,label", *(f"{a},{'high' if a > 0.5 else 'low'}" for (a,) in x)]))
    run, out = str(tmp_path / "run"), tmp_path / "s.npz"
    words = ["fit", str(tmp_path / "c.csv"), "--recipe", "regressor", "--target", "label", "--steps", "200"]
    assert main([*words, "--out", run]) == 0
    steer = ["steer", model, "-n", "4", "--steps", "6", "--nfe", "8", "--out", str(out), "--overwrite"]
    capsys.readouterr()
    assert main([*steer, "--reward", f"{run}=high", "--json"]) == 0
    numbers = last(capsys)
    assert numbers["reward_before"] < -1  # that of four samples of which one in three is high
    assert numbers["reward"] > 0.5 * numbers["reward_before"]
    wrong = {
        run: "--reward: expected",
        f"{run}=x": "--reward: expected",
        model: "cannot be a reward",
        f"{rows}/run": "--reward: expected",
    }
    for wish, told in wrong.items():
        assert main([*steer, "--reward", wish]) == 2
        assert told in capsys.readouterr().err


def test_molecules(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, run = tmp_path / "w.xyz", str(tmp_path / "run")
    file.write_text("".join(f"3\nheight={z} id=w{z}\n{WATER.format(z)}" for z in np.linspace(0.1, 0.3, 24)))
    words = ["fit", str(file), "--size", "tiny", "--steps", "3"]
    assert main([*words, "--target", "height", "--out", run, "--json"]) == 0
    assert last(capsys)["mae_constant"] > 0
    wrong = [
        (["--target", "high"], "Did you mean 'height'"),
        (["--recipe", "regressor"], "--target NAME"),
        (["--recipe", "molecules", "--target", "height"], "Use regressor"),
        (["--target", "height", "--start-from", run], "--start-from: a regressor"),
    ]
    for more, told in wrong:
        assert main([*words, *more, "--out", str(tmp_path / "x")]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.slow
def test_crystals(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = read("example:perovskites").subset(torch.arange(24))
    data.modality.write(data.values, data.given, tmp_path / "plain.csv")
    with (tmp_path / "plain.csv").open(newline="") as plain, (tmp_path / "c.csv").open("w", newline="") as told:
        names, *cells = csv.reader(plain)
        csv.writer(told).writerows([[*names, "energy"], *([*row, -1 - i] for i, row in enumerate(cells))])
    words = ["fit", str(tmp_path / "c.csv"), "--recipe", "regressor", "--target", "energy", "--size", "tiny"]
    assert main([*words, "--steps", "3", "--out", str(tmp_path / "run"), "--json"]) == 0
    assert last(capsys)["mae_constant"] > 1
    model = str(tmp_path / "model")
    assert main(["fit", str(tmp_path / "plain.csv"), "--size", "tiny", "--steps", "3", "--out", model]) == 0
    steer = ["steer", model, "-n", "2", "--steps", "2", "--given", "element=SrZrO3", "--nfe", "4"]
    capsys.readouterr()
    assert main([*steer, "--reward", f"{tmp_path / 'run'} >= 0", "--out", str(tmp_path / "s.npz"), "--json"]) == 0
    numbers = last(capsys)
    assert numbers["reward"] >= numbers["reward_before"]
