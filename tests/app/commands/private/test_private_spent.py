"""The ledger of a private fit that is resumed, interrupted, killed, overwritten or refused."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from feller.app.cli import main
from feller.core.errors import InputError
from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from tests.app.asked import refuse, run
from tests.app.commands.private.private_fits import (
    DESCRIBED,
    PAID,
    SEEDED,
    TINY,
    at_step,
    fit,
    held,
    steps_in,
    true_epsilon,
    write_table,
)

R = pathlib.Path("r")
RESUME = ("fit", "--resume", "--out", "r")
EARLIER = "an earlier run in this folder spent epsilon"


def test_resumed_finished_run_changes_nothing(unreported):
    fit("r", "--epsilon", 4)
    names = (*PAID, "state.json", "recipe.json", "ledger.json")
    before = [(R / name).read_bytes() for name in names]
    fit("r", "--resume")
    assert [(R / name).read_bytes() for name in names] == before


def test_refused_changes_of_a_resumed_run(unreported, tmp_path):
    fit("r", "--epsilon", 4)
    for words, number in (
        ("--train.batch-size 70", "75"),
        ("--steps 9", "8 steps"),
        ("--minutes 1", "8 steps"),
        ("--train.reuse-batches 4", ""),
        ("--epsilon 9", ""),
    ):
        assert number in str(refuse(*RESUME, *words.split()))
    write_table(tmp_path / "people.csv", {3: ("20", "F", "clerk")})
    refuse(*RESUME, kind=InputError, remedy="Restore the data")
    write_table(tmp_path / "people.csv")
    (tmp_path / "home" / "feller" / "key").unlink()
    refuse(*RESUME, kind=InputError, remedy="Restore the data")
    assert steps_in(R) == 8


def test_run_without_its_ledger_is_not_resumed(unreported):
    """It must not train without noise, nor count fewer steps than its weights have seen."""
    fit("r", "--epsilon", 4)
    content = held(R / "ledger.json")
    content["events"][-1]["steps"] = 5
    (R / "ledger.json").write_text(json.dumps(content))
    weights = (R / "weights.safetensors").read_bytes()
    error = refuse(*RESUME, kind=InputError, file="r/ledger.json")
    assert "8 steps on 271 rows; found 5 steps" in str(error)
    (R / "ledger.json").unlink()
    refuse(*RESUME, kind=InputError, file="r/ledger.json")
    assert (R / "weights.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_interrupted_run_counts_the_steps_taken(unreported, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert main(["fit", "people.csv", *DESCRIBED, "--epsilon", "4", "--out", "r"]) == 130
    assert steps_in(R) == held(R / "state.json")["step"] == 6
    fit("r", "--resume")
    assert steps_in(R) == held(R / "state.json")["step"] == 8
    assert true_epsilon(R, 8) <= 4


KILLED = """
import os, signal, sys
from feller.app.cli import main
from feller.app.workflows.private import private_training as privately
real = privately.poisson_batches
def wrapped(*args):
    draw = real(*args)
    def batch(step, rows):
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(step, rows)
    return batch
privately.poisson_batches = wrapped
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_run_counts_the_steps_paid_ahead(unreported):
    words = ("fit", "people.csv", "--schema", "schema.json", "--size", "tiny", "--steps", "30", "--epsilon", "4")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words, "--out", "r"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert steps_in(R) == 25
    assert held(R / "state.json")["step"] <= 3
    fit("r", "--resume")
    assert steps_in(R) == 30
    assert held(R / "state.json")["step"] <= 8


class Killed(BaseException):
    """Caught by nothing."""


def kill():
    raise Killed


def test_killed_run_whose_budget_is_spent(unreported, monkeypatch, capsys):
    """All 8 steps are paid at once, and the weights after the first are saved."""
    for step in (0, 3):  # before and after the first save
        with monkeypatch.context() as patch:
            at_step(patch, step, kill)
            with pytest.raises(Killed):
                fit("r", "--epsilon", 4, *(["--overwrite"] if step else []))
        assert steps_in(R) == 8
        if step == 0:
            assert "--overwrite" in refuse(*RESUME, kind=InputError).remedy
    assert held(R / "state.json")["step"] == 1
    weights = (R / "weights.safetensors").read_bytes()
    run(*RESUME)
    assert (R / "weights.safetensors").read_bytes() == weights
    assert steps_in(R) == 8
    capsys.readouterr()
    run("sample", "r", "-n", 3, "--out", "made.csv")
    err = capsys.readouterr().err
    assert "1 of 8 steps" in err
    assert "--resume" not in err


@pytest.mark.slow
def test_overwritten_run_keeps_its_ledger(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        fit("r", *SEEDED)
        ledger = (R / "ledger.json").read_bytes()
        fit("r", "--overwrite")  # a run without privacy in its place
    capsys.readouterr()
    run("fit", "people.csv", *DESCRIBED, *SEEDED, "--overwrite", "--out", "r")
    (told,) = (line for line in capsys.readouterr().err.splitlines() if EARLIER in line)
    assert "people.csv" in told
    assert "r/spent/1/ledger.json" in told
    assert (R / "report.html").read_text().count(EARLIER) == 1
    assert (R / "spent/1/ledger.json").read_bytes() == ledger
    assert held(R / "spent/1/recipe.json")["provenance"]["private"]["epsilon"] == 4.0


@pytest.mark.parametrize(
    "wrong",
    [
        ("--minutes", 1),
        ("--train.lrr", 1),
        ("--train.batch-size", 0),
        ("--size", "tinny"),
        ("--recipe", "tabel"),
        ("--target", "aeg"),
        ("--objective.marginals-budget", 2),
        ("--audit", "fisher=9"),
        ("--audit", "fisher=900"),
    ],
)
def test_wrong_argument_spends_nothing(tmp_path, wrong):
    """Neither in a schema search."""
    error = refuse("fit", write_table(tmp_path / "many.csv", n=300), *SEEDED, *wrong, "--out", "r")
    assert "spent" not in str(error)
    assert not (R / "spent").exists()


@pytest.mark.slow
def test_schema_search_of_a_refused_fit_is_recorded(unreported, tmp_path, capsys):
    data = write_table(tmp_path / "many.csv", n=3000)
    error = refuse("fit", data, *TINY, *SEEDED, "--epsilon", "0.001", "--out", "r", kind=InputError)
    kept = held(R / "spent/1/ledger.json")
    assert {one["is"] for one in kept["events"]} == {"GaussianMechanism"}
    charged = tuple(GaussianMechanism(one["label"], one["sigma"]) for one in kept["events"])
    epsilon = Ledger(charged, kept["delta"], 3000, kept["reserved_delta"]).epsilon()
    for text in ("age, sex, job (3 of 3 columns)", "r/spent/1/ledger.json", f"epsilon {epsilon:.4g}"):
        assert text in str(error)
    run("fit", data, *TINY, *SEEDED, "--out", "r")
    assert EARLIER in capsys.readouterr().err
