"""feller tune, from the command line."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from feller.app.cli import main
from feller.app.workflows.tune import DivergenceMonitor
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.models.model import Model
from feller.training.loop import StepMetrics
from tests.app.commands.conftest import fitted

QUICK = ("--objective.steps", 6, "--train.batch-size", 16, "--steps", 4)
OWN = """
def right(values): return values[:, 0]
def shape(values): return values.mean()
def nan(values): return values.flatten(1).mean(1) * float("nan")
def counts(values): return values.flatten(1).round().mean(1).detach()
def root(values): return (values.flatten(1).sum(1) * 0).sqrt()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    file = tmp_path_factory.mktemp("own") / "r.py"
    file.write_text(OWN)
    return file


def tune(*words: object) -> int:
    return main(["tune", *map(str, words)])


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def righter(moons: pathlib.Path, own: pathlib.Path) -> pathlib.Path:
    out = moons.parent / "right"
    words = ("--reward", f"{own}:right", "--strength", 2, "--train.lr", 3e-3, "--seed", 3, *QUICK)
    assert tune(moons, *words, "--train.batch-size", 64, "--steps", 40, "--out", out) == 0
    return out


@pytest.mark.slow
def test_a_tuned_run_is_a_run(righter: pathlib.Path, own: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has more of what was wished for, can be sampled, measured, steered and tuned again."""
    report = json.loads((righter / "report.json").read_text())
    numbers = report["numbers"]
    assert numbers["reward_before"] + 0.1 < numbers["reward"] < numbers["reward_tilted"] + 0.3
    assert 0 < numbers["kl"] < 2 * (numbers["reward_tilted"] - numbers["reward_before"])
    assert report["command"].startswith("feller tune")
    assert (
        "--train.lr 0.003 --seed 3" in report["command"] or "--train.lr 0.003 --objective.steps 6" in report["command"]
    )
    assert "Before fine-tuning" in (righter / "report.html").read_text()
    words = [sys.executable, "-m", "feller", "evaluate", str(righter), "--json"]
    again = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    assert again["kl"] == pytest.approx(numbers["kl"], rel=0.5)  # of as many roll-outs as there was time for
    assert "reward" not in again  # it is code of the user's
    out = righter.parent / "again"
    assert tune(righter, "--reward", f"{own}:right <= 0", *QUICK, "--out", out) == 0
    assert json.loads((out / "recipe.json").read_text())["tuned"]["base"] == str(righter)
    words = ("--reward", f"{own}:right", "-n", "1", "--steps", "1", "--nfe", "2")
    assert main(["steer", str(righter), *words]) == 0


@pytest.mark.slow
def test_samples_of_the_base_are_drawn_once(moons, own, tmp_path, monkeypatch):
    """The next tuning reads them, whatever its reward; a damaged file is drawn anew."""
    base, words = tmp_path / "base", (*QUICK, "--steps", 1, "--report", "none", "--overwrite")
    shutil.copytree(moons, base, ignore=shutil.ignore_patterns("drawn"))
    assert tune(base, "--reward", f"{own}:right", *words, "--out", tmp_path / "one") == 0
    (kept,) = (base / "drawn").iterdir()
    drawn, draw = [], Model.sample_dataset
    monkeypatch.setattr(Model, "sample_dataset", lambda self, n, **more: drawn.append(n) or draw(self, n, **more))
    assert tune(base, "--reward", f"{own}:right <= 0", *words, "--strength", 3, "--out", tmp_path / "two") == 0
    assert not drawn
    kept.write_bytes(kept.read_bytes()[:100])
    assert tune(base, "--reward", f"{own}:right", *words, "--out", tmp_path / "three") == 0
    assert drawn
    assert kept.stat().st_size > 100


@pytest.mark.slow
def test_resume_ends_where_one_sitting_does(moons: pathlib.Path, own: pathlib.Path, tmp_path: pathlib.Path) -> None:
    words = ("--reward", f"{own}:right", "--strength", 10, *QUICK, "--train.lr-decay-fraction", 0)
    assert tune(moons, *words, "--out", tmp_path / "whole") == 0
    assert tune(moons, *words, "--steps", 2, "--out", tmp_path / "half") == 0
    assert tune("--resume", "--steps", 4, "--reward", f"{own}:right", "--out", tmp_path / "half") == 0
    first, second = ((tmp_path / name / "average.safetensors").read_bytes() for name in ("whole", "half"))
    assert first == second


@pytest.mark.slow
def test_low_rank_changes_are_merged(moons: pathlib.Path, own: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The saved weights are those of a plain network, and differ from the base by matrices of the rank."""
    from safetensors.numpy import load_file

    words = ("--reward", f"{own}:right", "--strength", 6, "--rank", 2, *QUICK)
    assert tune(moons, *words, "--out", tmp_path / "low") == 0
    before, after = (load_file(tmp_path / "low" / name) for name in ("base.safetensors", "weights.safetensors"))
    assert before.keys() == after.keys()
    ranks = [
        np.linalg.matrix_rank(after[name] - before[name], tol=1e-6)
        for name in before
        if before[name].ndim == 2 and before[name].shape[0] > 2
    ]
    assert max(ranks) == 2


@pytest.mark.slow
def test_rewards_without_a_gradient(digits, tmp_path, capsys):
    assert tune(digits, "--reward", "compressibility", *QUICK, "--out", tmp_path / "small") == 0
    assert "no gradient: compressibility" in capsys.readouterr().err
    assert json.loads((tmp_path / "small" / "recipe.json").read_text())["tuned"]["method"] == "policy-gradient"
    words = ("--reward", "compressibility", "--method", "adjoint-matching", *QUICK)
    assert tune(digits, *words, "--out", tmp_path / "no") == 1
    assert "no gradient" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["continuous-adjoint", "discrete-adjoint", "draft", "refl", "filtered"])
def test_methods_to_compare_with(moons: pathlib.Path, own: pathlib.Path, tmp_path: pathlib.Path, method: str) -> None:
    words = ("--reward", f"{own}:right", "--method", method, *QUICK, "--steps", 2)
    assert tune(moons, *words, "--out", tmp_path / method) == 0


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--reward", "OWN:shape"], 1, r"one value per sample"),
        (["--reward", "OWN:nan"], 1, r"reward is nan"),
        (["--reward", "OWN:root"], 1, r"is not finite"),
        (["--reward", "OWN:counts", "--method", "draft"], 1, r"no gradient"),
        (["--reward", "inc"], 2, r"Did you mean 'ink'"),
        (["--reward", "ink", "--method", "adjoint"], 2, "--method: expected"),
        (["--reward", "ink", "--strength", "-1"], 2, "found -1"),
        (["--reward", "ink", "--strength", "nan"], 2, r"--strength: expected at least 0 and finite; found nan\n"),
        (["--reward", "ink", "--rank", "0"], 2, r"rank"),
        (["--reward", "ink", "--guidance", "nan"], 2, r"guidance"),
        (["--reward", "ink", "--given", "label=x"], 2, "label: expected"),
        (["--reward", "ink", "--steps", "1", "--minutes", "1"], 2, "found --steps and --minutes"),
        (["--reward", "ink", "--strenght", "1"], 2, r"Did you mean --strength"),
        ([], 2, r"one of: file.py:function"),
    ],
)
def test_wrong_words(digits, own, tmp_path, capsys, words, status, message):
    named = [word.replace("OWN", str(own)) for word in words]
    assert tune(digits, *named, "--out", tmp_path / "out") == status
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_code_is_never_taken_from_a_run(moons, tmp_path, capsys):
    """The wish of a run that was tuned to a user's function is run only if it is given again, and unchanged."""
    file, out = tmp_path / "r.py", tmp_path / "own"
    file.write_text(OWN)
    assert tune(moons, "--reward", f"{file}:right", *QUICK, "--steps", 2, "--out", out) == 0
    file.write_text("raise SystemExit('executed')\n")
    assert main(["evaluate", str(out)]) == 0
    assert main(["sample", str(out), "-n", "2", "--nfe", "2"]) == 0
    capsys.readouterr()
    assert tune("--resume", "--steps", 4, "--out", out) == 2
    assert "is custom code" in capsys.readouterr().err
    record = json.loads((out / "recipe.json").read_text())  # one that lies about it
    record["tuned"]["code"] = []
    (out / "recipe.json").write_text(json.dumps(record))
    assert main(["evaluate", str(out)]) == 0
    assert tune("--resume", "--steps", 4, "--out", out) == 2
    record["tuned"]["rewards"] = [str(moons)]  # and one that names another run
    (out / "recipe.json").write_text(json.dumps(record))
    assert main(["evaluate", str(out)]) == 0
    assert tune("--resume", "--steps", 4, "--out", out) == 2
    assert "another run" in capsys.readouterr().err
    record["tuned"] |= {"rewards": [f"{file}:right"], "code": ["0"]}
    (out / "recipe.json").write_text(json.dumps(record))
    assert tune("--resume", "--steps", 4, "--reward", f"{file}:right", "--out", out) == 1
    assert "has changed" in capsys.readouterr().err
    assert main(["fit", "--resume", "--out", str(out)]) == 2
    assert "feller tune --resume" in capsys.readouterr().err


@pytest.mark.slow
def test_divergence_keeps_the_last_good_weights(moons, own, tmp_path, capsys):
    out = tmp_path / "far"
    words = ("--reward", f"{own}:right", "--train.lr", 1.0, "--train.grad-clip-norm", 1e9, "--train.warmup", 20)
    assert tune(moons, *words, *QUICK, "--steps", 200, "--out", out) == 1
    assert "diverged" in capsys.readouterr().err
    assert main(["sample", str(out), "-n", "8", "--nfe", "8", "--out", str(tmp_path / "kept.npz")]) == 0
    with np.load(tmp_path / "kept.npz") as arrays:
        assert np.abs(arrays["samples"]).max() < 20


def test_a_bound_of_the_divergence_counts_the_strength(tmp_path: pathlib.Path) -> None:
    """At strength 50 a gain of 0.1 explains 5 nats, of which ten times may be spent."""
    monitor = DivergenceMonitor(50.0, 1.0, Run(tmp_path))
    one = torch.tensor(1.0)

    def report(reward: float, cost: float) -> StepMetrics:
        return StepMetrics(1, one, 1e-3, one, 0.0, 0.1, {"reward": torch.tensor(reward), "cost": torch.tensor(cost)})

    monitor.check(report(1.1, 49.0))
    for bad in (report(1.1, 51.0), report(1.0, 11.0), report(1.1, float("nan"))):
        with pytest.raises(InputError, match="diverged"):
            monitor.check(bad)


@pytest.mark.slow
def test_tuning_of_one_class_is_measured_on_it(digits, tmp_path, capsys):
    words = ("--reward", "ink", "--given", "label=7", "--guidance", 2, *QUICK, "--steps", 1, "--json")
    assert tune(digits, *words, "--out", tmp_path / "seven") == 0
    text = capsys.readouterr()
    said = float(re.search(r"reward of the base about ([\d.]+)", text.err)[1])
    assert json.loads(text.out.splitlines()[-1])["reward_before"] == pytest.approx(said, abs=0.05)  # said of few


@pytest.mark.slow
def test_what_has_no_memoryless_noise_can_be_tuned_by_examples(tmp_path, capsys):
    """Filtered samples need none; only the divergence from the base is not known."""
    file = tmp_path / "words.txt"
    file.write_text("".join(f"word {i % 13}\n" for i in range(60)))
    (tmp_path / "r.py").write_text("def ones(values):\n    return (values == 1).float().mean(1)\n")
    run, words = fitted(tmp_path / "run", file, 2), ("--method", "filtered", "--steps", 1, "--train.batch-size", 8)
    assert tune(run, "--reward", f"{tmp_path}/r.py:ones", *words, "--out", tmp_path / "out", "--json") == 0
    found = told(capsys)
    assert "kl" not in found
    assert "reward" in found


def test_data_that_are_gone(tmp_path: pathlib.Path, own: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run without its data can be tuned, and what needs none is measured."""
    table = tmp_path / "points.csv"
    table.write_text("x,y\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(60)))
    run = fitted(tmp_path / "run", table, 5)
    table.unlink()
    assert tune(run, "--reward", f"{own}:right", *QUICK, "--out", tmp_path / "out", "--json") == 0
    text = capsys.readouterr()
    assert "will not compare samples with data" in text.err
    numbers = json.loads(text.out.splitlines()[-1])
    assert {"reward", "reward_before", "kl", "diversity", "report"} <= numbers.keys()
    kept = json.loads((tmp_path / "out" / "report.json").read_text())
    assert kept["numbers"]["reward"] == numbers["reward"]
    assert kept["sketch"].startswith("Undertrained")
    assert kept["sketch"] in text.err
    assert main(["sample", str(tmp_path / "out"), "-n", "2", "--nfe", "2"]) == 0


def test_data_that_cannot_be_tuned(own, tmp_path, capsys):
    file = tmp_path / "words.txt"
    file.write_text("".join(f"word {i % 13}\n" for i in range(60)))
    run = fitted(tmp_path / "text", file, 2)
    assert tune(run, "--reward", f"{own}:right", "--out", tmp_path / "out") == 2
    assert "memoryless" in capsys.readouterr().err


@pytest.mark.slow
def test_harm_to_classes_is_seen_beside_the_base(digits, tmp_path, capsys):
    """The judge reads samples of the base, too; a round of hardly any rate changes nothing."""
    words = ("--reward", "ink", "--objective.steps", 4, "--train.batch-size", 8, "--steps", 1, "--train.lr", "1e-12")
    assert tune(digits, *words, "--guidance", 1.5, "--out", tmp_path / "same", "--json") == 0
    numbers = told(capsys)
    assert numbers["accuracy_before"] == pytest.approx(numbers["accuracy"], abs=1e-9)
    assert [*numbers].index("accuracy_before") == [*numbers].index("accuracy") + 1
    report = json.loads((tmp_path / "same" / "report.json").read_text())
    assert "--guidance 1.5" in report["command"]
    assert "--objective.steps 4 --train.batch-size 8 --train.lr 1e-12" in report["command"]
    assert "accuracy_before" in report["explanations"]
