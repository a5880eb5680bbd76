"""The ledger of a private fit never lies, whatever becomes of the fit."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from feller.privacy.accounting.dp_events import GaussianMechanism
from feller.privacy.accounting.ledger import Ledger
from tests.app.commands.private.private_fits import (
    ALONE,
    PAID,
    SEEDED,
    TINY,
    at_step,
    fit,
    held,
    refused,
    run,
    steps_in,
    true_epsilon,
    write_table,
)


def test_a_finished_run_that_is_resumed_changes_nothing(unreported: None, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit(capsys, "r", "--epsilon", 4)
    before = {name: (folder / name).read_bytes() for name in (*PAID, "state.json", "recipe.json", "ledger.json")}
    fit(capsys, "r", "--resume")
    for name, content in before.items():
        assert (folder / name).read_bytes() == content, name


def test_resuming_with_another_batch_steps_data_or_wish_is_refused(unreported, capsys, tmp_path):
    folder = fit(capsys, "r", "--epsilon", 4)
    again = ("--resume", "--out", folder)
    assert "batch size of 75; found 70" in refused(capsys, *again, "--train.batch-size", 70)
    assert "planned for 8 steps" in refused(capsys, *again, "--steps", 9)
    assert "planned for 8 steps" in refused(capsys, *again, "--minutes", 1)
    assert "batches reused for several steps" in refused(capsys, *again, "--train.reuse-batches", 4)
    assert "cannot change" in refused(capsys, *again, "--epsilon", 9)
    write_table(tmp_path / "people.csv", {3: ("20", "F", "clerk")})
    assert "has changed since this run was fitted" in refused(capsys, *again)
    write_table(tmp_path / "people.csv")
    (tmp_path / "home" / "feller" / "key").unlink()
    assert "or the key in" in refused(capsys, *again)
    assert steps_in(folder) == 8


def test_a_run_without_its_own_ledger_is_not_gone_on_with(unreported: None, capsys: pytest.CaptureFixture[str]) -> None:
    """It must not train without noise, nor count less than its weights have seen."""
    folder = fit(capsys, "r", "--epsilon", 4)
    content = held(folder / "ledger.json")
    content["events"][-1]["steps"] = 5
    (folder / "ledger.json").write_text(json.dumps(content))
    weights = (folder / "weights.safetensors").read_bytes()
    assert "at least 8 steps on 271 rows; found 5 steps" in refused(capsys, "--resume", "--out", folder)
    (folder / "ledger.json").unlink()
    assert "spent privacy budget is unknown" in refused(capsys, "--resume", "--out", folder)
    assert (folder / "weights.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_after_ctrl_c_the_ledger_counts_the_steps_taken_and_the_run_goes_on(unreported, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
        status, _, err = run(
            capsys, "fit", "people.csv", "--schema", "schema.json", *TINY, "--epsilon", 4, "--out", "r"
        )
    assert status == 130
    assert "feller fit --resume --out r" in err
    folder = pathlib.Path("r")
    assert steps_in(folder) == held(folder / "state.json")["step"] == 6
    fit(capsys, "r", "--resume")
    assert steps_in(folder) == held(folder / "state.json")["step"] == 8
    assert true_epsilon(folder, 8) <= 4


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
def test_what_a_killed_run_spent_stays_spent(unreported: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("fit", "people.csv", "--schema", "schema.json", "--size", "tiny", "--steps", "30", "--epsilon", "4")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words, "--out", "r"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = pathlib.Path("r")
    assert steps_in(folder) == 25
    assert held(folder / "state.json")["step"] <= 3
    fit(capsys, "r", "--resume")
    assert steps_in(folder) == 30
    assert held(folder / "state.json")["step"] <= 8


def test_a_run_whose_steps_a_kill_lost_comes_to_its_end(unreported, capsys, monkeypatch):
    """All 8 steps are paid for at once, and the weights after the first are what was saved."""
    asked = ("people.csv", "--schema", "schema.json", *TINY, *ALONE, "--epsilon", 4, "--out", "r")
    for step in (0, 3):  # before and after the first save
        with monkeypatch.context() as patch:
            at_step(patch, step, killed)
            with pytest.raises(Killed):
                run(capsys, "fit", *asked, *(["--overwrite"] if step else []))
        folder = pathlib.Path("r")
        assert steps_in(folder) == 8
        if step == 0:
            told = refused(capsys, "--resume", "--out", "r")
            assert "Start again with --overwrite" in told
    assert held(folder / "state.json")["step"] == 1
    weights = (folder / "weights.safetensors").read_bytes()
    status, _, err = run(capsys, "fit", "--resume", "--out", "r")
    assert status == 0, err
    assert "nothing left to train: the privacy budget is spent (1 steps taken)" in err
    assert (folder / "weights.safetensors").read_bytes() == weights
    assert steps_in(folder) == 8
    status, _, err = run(capsys, "sample", "r", "-n", 3, "--out", "made.csv")
    assert status == 0, err
    assert "training ended after 1 of 8 steps" in err
    assert "--resume" not in err


class Killed(BaseException):
    """Nobody catches it."""


def killed() -> None:
    raise Killed


@pytest.mark.slow
def test_what_an_overwritten_run_spent_is_kept_and_told(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        folder = fit(capsys, "r", *SEEDED)
        ledger = (folder / "ledger.json").read_bytes()
        fit(capsys, "r", "--overwrite")  # a run without privacy in its place
    again = ("people.csv", "--schema", "schema.json", *TINY, *SEEDED, "--overwrite", "--out", "r")
    status, _, err = run(capsys, "fit", *again)
    assert status == 0, err
    told = [line for line in err.splitlines() if "an earlier run in this folder spent epsilon" in line]
    assert len(told) == 1
    assert "on people.csv" in told[0]
    assert "r/spent/1/ledger.json" in told[0]
    assert (folder / "report.html").read_text().count("an earlier run in this folder spent epsilon") == 1
    assert (folder / "spent" / "1" / "ledger.json").read_bytes() == ledger
    assert held(folder / "spent" / "1" / "recipe.json")["provenance"]["private"]["epsilon"] == 4.0


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
def test_a_slip_of_the_pen_spends_nothing(capsys, tmp_path, wrong):
    data = write_table(tmp_path / "many.csv", n=300)
    told = refused(capsys, data, *SEEDED, *wrong, "--out", "r")
    assert "search spent" not in told
    assert not (tmp_path / "r" / "spent").exists()


@pytest.mark.slow
def test_a_search_for_columns_whose_fit_is_refused_has_spent_all_the_same(unreported, capsys, tmp_path):
    data = write_table(tmp_path / "many.csv", n=3000)
    told = refused(capsys, data, *TINY, *SEEDED, "--epsilon", "0.001", "--out", "r")
    assert "age, sex, job (3 of 3 columns)" in told
    assert "schema search spent epsilon" in told
    assert "recorded in r/spent/1/ledger.json" in told
    kept = held(tmp_path / "r" / "spent" / "1" / "ledger.json")
    assert {one["is"] for one in kept["events"]} == {"GaussianMechanism"}
    charged = tuple(GaussianMechanism(one["label"], one["sigma"]) for one in kept["events"])
    assert f"epsilon {Ledger(charged, kept['delta'], 3000, kept['reserved_delta']).epsilon():.4g}" in told
    status, _, err = run(capsys, "fit", data, *TINY, *SEEDED, "--out", "r")
    assert status == 0, err
    assert "an earlier run in this folder spent epsilon" in err
