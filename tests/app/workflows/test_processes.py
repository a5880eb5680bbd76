"""Runs in processes of their own: killed, interrupted, and locked by another."""

import json
import signal
import subprocess
import sys

import pytest

from tests.app.workflows.launched import distance, done, finish, start, wait_for_step

FIT = ("fit", "example:moons", "--size", "tiny", "--train.batch-size", "128", "--report", "none")


def losses(run):
    return {row["step"]: row["loss"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    done(*FIT, "--steps", 120, "--out", "whole", cwd=folder)
    return folder / "whole"


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit(straight, tmp_path):
    process = start(*FIT, "--steps", 120, "--out", "killed", cwd=tmp_path)
    wait_for_step(tmp_path / "killed", 40, process)
    process.kill()
    process.communicate()
    done("fit", "--resume", "--out", "killed", "--report", "none", cwd=tmp_path)
    assert distance(straight, tmp_path / "killed") == 0
    assert losses(straight) == losses(tmp_path / "killed")


@pytest.mark.slow
def test_interrupt_saves_and_names_the_command_to_resume(straight, tmp_path):
    process = start(*FIT, "--steps", 120, "--out", "paused", cwd=tmp_path)
    wait_for_step(tmp_path / "paused", 20, process)
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert status == 130, err
    assert "feller fit --resume --out paused" in err
    assert 0 < json.loads((tmp_path / "paused" / "state.json").read_text())["step"] < 120
    out = done("fit", "--resume", "--out", "paused", "--report", "none", "--json", cwd=tmp_path)
    assert json.loads(out.splitlines()[-1])["steps"] == 120
    assert distance(straight, tmp_path / "paused") == 0


@pytest.mark.slow
def test_locked_run_is_refused(tmp_path):
    process = start(*FIT, "--steps", 100_000, "--out", "busy", cwd=tmp_path)
    wait_for_step(tmp_path / "busy", 10, process)
    status, _, err = finish(start("fit", "--resume", "--out", "busy", cwd=tmp_path))
    process.kill()
    process.communicate()
    assert status == 1
    assert "busy" in err


def test_help_needs_no_torch():
    words = (sys.executable, "-X", "importtime", "-m", "feller", "--help")
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "fit" in done.stdout
    assert "torch" not in done.stderr
    last = [line for line in done.stderr.splitlines() if line.startswith("import time:")][-1]
    assert "feller" in last or "runpy" in last
