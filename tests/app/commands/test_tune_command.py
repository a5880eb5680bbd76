"""feller tune."""

import functools
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from feller.app.workflows.tune import DivergenceMonitor
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.models.model import Model
from feller.training.loop import StepMetrics
from tests.app.asked import refuse, run
from tests.app.commands.conftest import fitted
from tests.errors import refuses

tune = functools.partial(run, "tune")
QUICK = ("--objective.steps", 6, "--train.batch-size", 16, "--steps", 4)
UNREPORTED = (*QUICK, "--report", "none")
OWN = """
def right(values): return values[:, 0]
def shape(values): return values.mean()
def nan(values): return values.flatten(1).mean(1) * float("nan")
def counts(values): return values.flatten(1).round().mean(1).detach()
def root(values): return (values.flatten(1).sum(1) * 0).sqrt()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    file = tmp_path_factory.mktemp("own") / "r.py"
    file.write_text(OWN)
    return file


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "words.txt").write_text("".join(f"word {i % 13}\n" for i in range(60)))
    return fitted(folder / "run", folder / "words.txt", 2)


@pytest.fixture(scope="module")
def tuned(moons, own):
    out = moons.parent / "right"
    words = ("--reward", f"{own}:right", "--strength", 2, "--train.lr", 3e-3, "--seed", 3, *QUICK)
    tune(moons, *words, "--train.batch-size", 64, "--steps", 40, "--out", out)
    return out


def record(folder, name="recipe.json"):
    return json.loads((folder / name).read_text())


@pytest.mark.slow
def test_tuned_run_has_more_reward_and_is_a_run(tuned, own):
    report = record(tuned, "report.json")
    numbers = report["numbers"]
    assert numbers["reward_before"] + 0.1 < numbers["reward"] < numbers["reward_tilted"] + 0.3
    assert 0 < numbers["kl"] < 2 * (numbers["reward_tilted"] - numbers["reward_before"])
    assert report["command"].startswith("feller tune")
    assert "--train.lr 0.003" in report["command"]
    command = [sys.executable, "-m", "feller", "evaluate", str(tuned), "--json"]
    again = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    assert again["kl"] == pytest.approx(numbers["kl"], rel=0.5)  # of as many roll-outs as there was time for
    assert "reward" not in again  # it is code of the user's
    out = tuned.parent / "again"
    tune(tuned, "--reward", f"{own}:right <= 0", *UNREPORTED, "--out", out)
    assert record(out)["tuned"]["base"] == str(tuned)
    run("steer", tuned, "--reward", f"{own}:right", "-n", 1, "--steps", 1, "--nfe", 2)


@pytest.mark.slow
def test_samples_of_the_base_are_kept(moons, own, tmp_path, monkeypatch):
    """The next tuning reads them, whatever its reward; a damaged file is replaced."""
    base, words = tmp_path / "base", (*UNREPORTED, "--steps", 1, "--overwrite")
    shutil.copytree(moons, base, ignore=shutil.ignore_patterns("drawn"))
    tune(base, "--reward", f"{own}:right", *words, "--out", tmp_path / "one")
    (kept,) = (base / "drawn").iterdir()
    drawn, draw = [], Model.sample_dataset
    monkeypatch.setattr(Model, "sample_dataset", lambda self, n, **more: drawn.append(n) or draw(self, n, **more))
    tune(base, "--reward", f"{own}:right <= 0", *words, "--strength", 3, "--out", tmp_path / "two")
    assert not drawn
    kept.write_bytes(kept.read_bytes()[:100])
    tune(base, "--reward", f"{own}:right", *words, "--out", tmp_path / "three")
    assert drawn
    assert kept.stat().st_size > 100


@pytest.mark.slow
def test_resumed_tuning_equals_one_session(moons, own, tmp_path):
    words = ("--reward", f"{own}:right", "--strength", 10, *UNREPORTED, "--train.lr-decay-fraction", 0)
    tune(moons, *words, "--out", tmp_path / "whole")
    tune(moons, *words, "--steps", 2, "--out", tmp_path / "half")
    tune("--resume", "--steps", 4, "--reward", f"{own}:right", "--report", "none", "--out", tmp_path / "half")
    first, second = ((tmp_path / name / "average.safetensors").read_bytes() for name in ("whole", "half"))
    assert first == second


@pytest.mark.slow
def test_lora_weights_are_merged(moons, own, tmp_path):
    """The saved weights are those of a plain network, and differ from the base by matrices of the rank."""
    tune(moons, "--reward", f"{own}:right", "--strength", 6, "--rank", 2, *UNREPORTED, "--out", tmp_path / "low")
    before, after = (load_file(tmp_path / "low" / f"{name}.safetensors") for name in ("base", "weights"))
    assert before.keys() == after.keys()
    matrices = [name for name in before if before[name].ndim == 2 and before[name].shape[0] > 2]
    assert max(np.linalg.matrix_rank(after[name] - before[name], tol=1e-6) for name in matrices) == 2


@pytest.mark.slow
def test_reward_without_a_gradient(digits, tmp_path):
    tune(digits, "--reward", "compressibility", *UNREPORTED, "--out", tmp_path / "small")
    assert record(tmp_path / "small")["tuned"]["method"] == "policy-gradient"
    words = ("--reward", "compressibility", "--method", "adjoint-matching", *QUICK, "--out", tmp_path / "no")
    refuse("tune", digits, *words, kind=InputError, expected="a reward with a gradient")
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["continuous-adjoint", "discrete-adjoint", "draft", "refl", "filtered"])
def test_other_methods(moons, own, tmp_path, method):
    tune(moons, "--reward", f"{own}:right", "--method", method, *UNREPORTED, "--steps", 2, "--out", tmp_path / method)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--reward OWN:nan", {"kind": InputError, "remedy": "Bound the reward, or return a low finite value there"}),
        ("--reward OWN:shape", {"kind": InputError}),
        ("--reward OWN:root", {"kind": InputError}),
        ("--reward OWN:counts --method draft", {"kind": InputError}),
        ("--reward inc", {"argument": "reward", "remedy": "Did you mean 'ink'?"}),
        ("--reward ink --method adjoint", {"argument": "method", "found": "'adjoint'"}),
        ("--reward ink --strength -1", {"argument": "strength", "found": "-1", "remedy": "Negate the reward"}),
        ("--reward ink --strength nan", {"argument": "strength", "found": "nan", "remedy": None}),
        ("--reward ink --rank 0", {"argument": "rank", "found": "0"}),
        ("--reward ink --guidance nan", {"found": "nan"}),
        ("--reward ink --given label=x", {"argument": "label", "found": "'x'"}),
        ("--reward ink --steps 1 --minutes 1", {"argument": "steps", "found": "--steps and --minutes"}),
        ("--reward ink --strenght 1", {"remedy": "Did you mean --strength? See feller tune --help"}),
        ("", {}),
    ],
)
def test_refused_arguments(digits, own, tmp_path, words, fields):
    refuse("tune", digits, *words.replace("OWN", str(own)).split(), "--out", tmp_path / "out", **fields)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_user_code_is_never_taken_from_a_run(moons, tmp_path):
    """The reward of a resumed run is executed only if it is named again, and unchanged."""
    file, out = tmp_path / "r.py", tmp_path / "own"
    file.write_text(OWN)
    tune(moons, "--reward", f"{file}:right", *UNREPORTED, "--steps", 2, "--out", out)
    file.write_text("raise SystemExit('executed')\n")
    resume = ("tune", "--resume", "--steps", 4, "--out", out)

    def changed(**entries):
        changed = record(out)
        changed["tuned"] |= entries
        (out / "recipe.json").write_text(json.dumps(changed))
        run("evaluate", out)

    changed()
    run("sample", out, "-n", 2, "--nfe", 2)
    refuse(*resume)
    changed(code=[])
    refuse(*resume)
    changed(rewards=[str(moons)])
    assert "another run" in str(refuse(*resume))
    changed(rewards=[f"{file}:right"], code=["0"])
    refuse(*resume, "--reward", f"{file}:right", kind=InputError)
    assert "feller tune --resume" in str(refuse("fit", "--resume", "--out", out))


@pytest.mark.slow
def test_diverged_tuning_keeps_the_last_good_weights(moons, own, tmp_path):
    words = ("--reward", f"{own}:right", "--train.lr", 30.0, "--train.grad-clip-norm", 1e9, "--train.warmup", 20)
    words += (*QUICK, "--steps", 200, "--out", tmp_path / "far")
    assert "diverged" in str(refuse("tune", moons, *words, kind=InputError))
    run("sample", tmp_path / "far", "-n", 8, "--nfe", 8, "--out", tmp_path / "kept.npz")
    with np.load(tmp_path / "kept.npz") as arrays:
        assert np.abs(arrays["samples"]).max() < 20


def test_divergence_bound_depends_on_the_strength(tmp_path):
    """At strength 50 a gain of 0.1 explains 5 nats, and ten times as many are allowed."""
    monitor, one = DivergenceMonitor(50.0, 1.0, Run(tmp_path)), torch.tensor(1.0)

    def report(reward, cost):
        return StepMetrics(1, one, 1e-3, one, 0.0, 0.1, {"reward": torch.tensor(reward), "cost": torch.tensor(cost)})

    monitor.check(report(1.1, 49.0))
    for bad in (report(1.1, 51.0), report(1.0, 11.0), report(1.1, float("nan"))):
        with refuses(InputError):
            monitor.check(bad)


@pytest.mark.slow
def test_reward_before_is_that_of_the_condition(digits, tmp_path, capsys):
    words = ("--reward", "ink", "--given", "label=7", "--guidance", 2, *QUICK, "--steps", 1)
    found = tune(digits, *words, "--out", tmp_path / "seven")
    estimate = float(re.search(r"reward of the base about ([\d.]+)", capsys.readouterr().err)[1])
    assert found["reward_before"] == pytest.approx(estimate, abs=0.05)  # of few samples


@pytest.mark.slow
def test_tokens_are_filtered_by_default(text, tmp_path):
    """But the divergence from the base is unknown."""
    (tmp_path / "r.py").write_text("def ones(values):\n    return (values == 1).float().mean(1)\n")
    words = ("--steps", 1, "--train.batch-size", 8)
    found = tune(text, "--reward", f"{tmp_path}/r.py:ones", *words, "--out", tmp_path / "out")
    assert record(tmp_path / "out")["tuned"]["method"] == "filtered"
    assert "kl" not in found
    assert "reward" in found


def test_other_methods_need_memoryless_noise(text, own, tmp_path):
    words = ("--reward", f"{own}:right", "--method", "policy-gradient", "--out", tmp_path / "out")
    assert "Mixture" in str(refuse("tune", text, *words))


def test_run_without_its_data(tmp_path, own, capsys):
    """Can be tuned; metrics that compare with data are left out."""
    table = tmp_path / "points.csv"
    table.write_text("x,y\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(60)))
    base = fitted(tmp_path / "run", table, 5)
    table.unlink()
    numbers = tune(base, "--reward", f"{own}:right", *QUICK, "--out", tmp_path / "out")
    assert {"reward", "reward_before", "kl", "diversity", "report"} <= numbers.keys()
    kept = record(tmp_path / "out", "report.json")
    assert kept["numbers"]["reward"] == numbers["reward"]
    assert kept["sketch"] in capsys.readouterr().err
    run("sample", tmp_path / "out", "-n", 2, "--nfe", 2)
    tune(base, "--reward", f"{own}:right", *UNREPORTED, "--out", tmp_path / "unreported")
    assert "points.csv" not in capsys.readouterr().err


@pytest.mark.slow
def test_accuracy_of_classes_is_compared_with_the_base(digits, tmp_path):
    """A step of negligible rate changes nothing."""
    words = ("--reward", "ink", "--objective.steps", 4, "--train.batch-size", 8, "--steps", 1, "--train.lr", "1e-12")
    numbers = tune(digits, *words, "--guidance", 1.5, "--out", tmp_path / "same")
    assert numbers["accuracy_before"] == pytest.approx(numbers["accuracy"], abs=1e-9)
    assert [*numbers].index("accuracy_before") == [*numbers].index("accuracy") + 1
    report = record(tmp_path / "same", "report.json")
    for words in ("--guidance 1.5", "--objective.steps 4 --train.batch-size 8 --train.lr 1e-12"):
        assert words in report["command"]
    assert "accuracy_before" in report["explanations"]
