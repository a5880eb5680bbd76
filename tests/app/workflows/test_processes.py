"""Runs in processes of their own: killed, interrupted, and shared by several."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import torch

from feller.core.safetensors_io import load_tensors

FIT = ["fit", "example:moons", "--size", "tiny", "--train.batch-size", "128"]


def start(*words, cwd, launcher=()):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "feller", *map(str, words)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def wait_for_step(run: pathlib.Path, step: int, process) -> None:
    for _ in range(1200):
        state = run / "state.json"
        metrics = run / "metrics.jsonl"
        if state.is_file() and metrics.is_file() and len(metrics.read_text().splitlines()) > step // 10:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("training never got there")


def same_weights(a: pathlib.Path, b: pathlib.Path) -> None:
    for name in ("weights.safetensors", "average.safetensors"):
        first, second = load_tensors(a / name)[0], load_tensors(b / name)[0]
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def losses(run: pathlib.Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    status, _, err = finish(start(*FIT, "--steps", 120, "--out", "whole", cwd=folder))
    assert status == 0, err
    return folder / "whole"


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit(straight, tmp_path):
    process = start(*FIT, "--steps", 120, "--out", "killed", cwd=tmp_path)
    wait_for_step(tmp_path / "killed", 40, process)
    process.kill()
    process.communicate()
    status, _, err = finish(start("fit", "--resume", "--out", "killed", cwd=tmp_path))
    assert status == 0, err
    same_weights(straight, tmp_path / "killed")
    assert losses(straight) == losses(tmp_path / "killed")


@pytest.mark.slow
def test_interrupt_saves_and_says_how_to_go_on(straight, tmp_path):
    process = start(*FIT, "--steps", 120, "--out", "paused", cwd=tmp_path)
    wait_for_step(tmp_path / "paused", 20, process)
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert status == 130, err
    assert "feller fit --resume --out paused" in err
    step = json.loads((tmp_path / "paused" / "state.json").read_text())["step"]
    assert 0 < step < 120
    status, out, err = finish(start("fit", "--resume", "--out", "paused", "--json", cwd=tmp_path))
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["steps"] == 120
    same_weights(straight, tmp_path / "paused")


@pytest.mark.slow
def test_two_processes_do_what_one_does(straight, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone")
    status, _, err = finish(start(*FIT, "--steps", 120, "--out", "shared", cwd=tmp_path, launcher=launcher))
    assert status == 0, err
    one, two = losses(straight), losses(tmp_path / "shared")
    assert one.keys() == two.keys()
    assert [two[step] for step in one] == pytest.approx([one[step] for step in one], rel=1e-3)


@pytest.mark.slow
def test_folder_in_use_is_refused(tmp_path):
    process = start(*FIT, "--steps", 100_000, "--out", "busy", cwd=tmp_path)
    wait_for_step(tmp_path / "busy", 10, process)
    status, _, err = finish(start("fit", "--resume", "--out", "busy", cwd=tmp_path))
    process.kill()
    process.communicate()
    assert status == 1
    assert "another process is writing" in err


def test_help_needs_no_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "feller", "--help"], capture_output=True, text=True, check=True
    )
    assert "fit" in done.stdout
    assert "torch" not in done.stderr
    last = [line for line in done.stderr.splitlines() if line.startswith("import time:")][-1]
    assert "feller" in last or "runpy" in last
