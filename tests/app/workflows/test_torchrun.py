"""Fits that a launcher starts in several processes: killed, interrupted, on two machines, with people in the data."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from feller.core.safetensors_io import load_tensors
from feller.core.serialization import read_json

ROOT = pathlib.Path(__file__).parents[3]
TWO = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone")
FIT = ("fit", "example:moons", "--size", "tiny", "--train.batch-size", "64")
SCHEMA = {
    "unit": "row",
    "outside": "clip",
    "columns": {
        "age": {"kind": "numerical", "low": 0, "high": 100, "edges": [20, 40, 60, 80]},
        "sex": {"kind": "categorical", "values": ["F", "M"]},
    },
    "rules": [],
}


def start(*words, cwd: pathlib.Path, launcher: tuple[str, ...] = TWO, program: tuple[str, ...] = ("-m", "feller")):
    return subprocess.Popen(
        [sys.executable, *launcher, *program, *map(str, words)],
        cwd=cwd,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "XDG_DATA_HOME": str(cwd / "home"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def done(*words, cwd: pathlib.Path, launcher: tuple[str, ...] = TWO) -> tuple[str, str]:
    status, out, err = finish(start(*words, cwd=cwd, launcher=launcher))
    assert status == 0, err
    return out, err


def wait_for_step(run: pathlib.Path, step: int, process: subprocess.Popen[str]) -> None:
    for _ in range(2400):
        metrics = run / "metrics.jsonl"
        if (run / "state.json").is_file() and len(metrics.read_text().splitlines()) > step // 10:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("training never got there")


def distance(one: pathlib.Path, two: pathlib.Path) -> float:
    """Return by how much the weights and averages of two runs differ, at most."""
    apart = []
    for name in ("weights.safetensors", "average.safetensors"):
        first, second = load_tensors(one / name)[0], load_tensors(two / name)[0]
        assert first.keys() == second.keys()
        apart += [(first[key] - second[key]).abs().max().item() for key in first]
    return max(apart)


def spoken(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("feller")]


@pytest.mark.slow
def test_a_wrong_wish_is_told_once(tmp_path: pathlib.Path) -> None:
    """All processes fail alike: the first one says why, and the launcher ends the others."""
    status, out, err = finish(start("fit", "nowhere.csv", "--json", cwd=tmp_path))
    assert status != 0
    assert not out
    told = [line for line in spoken(err) if line.startswith("feller:") or line.startswith("feller (")]
    assert len(told) == 1, err
    assert "nowhere.csv" in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_process_fails_and_no_other_hangs(tmp_path: pathlib.Path, rank: str) -> None:
    begun = time.monotonic()
    status, _, err = finish(start("fail", rank, cwd=tmp_path, program=("-m", "tests.app.workflows.families")))
    assert status != 0
    assert "the data of this process are gone" in err
    assert "Traceback (most recent call last):\n  File" not in err.split("torch/distributed")[0]
    assert time.monotonic() - begun < 120
    wrong = [line for line in spoken(err) if "gone" in line]
    assert wrong == [f"feller{'' if rank == '0' else ' (process 1)'}: the data of this process are gone"]


@pytest.mark.slow
def test_killed_together_they_go_on_alike(tmp_path: pathlib.Path) -> None:
    """With as many processes bit for bit, with another number and sharded up to rounding."""
    done(*FIT, "--steps", 120, "--out", "whole", cwd=tmp_path)
    process = start(*FIT, "--steps", 120, "--out", "killed", cwd=tmp_path)
    wait_for_step(tmp_path / "killed", 40, process)
    for each in (process.pid, *children(process.pid)):
        os.kill(each, signal.SIGKILL)
    process.communicate()
    time.sleep(1)
    for name in ("alone", "sharded"):
        shutil.copytree(tmp_path / "killed", tmp_path / name)
    done("fit", "--resume", "--out", "killed", cwd=tmp_path)
    assert distance(tmp_path / "whole", tmp_path / "killed") == 0
    done("fit", "--resume", "--out", "alone", cwd=tmp_path, launcher=())
    assert 0 < distance(tmp_path / "whole", tmp_path / "alone") < 1e-3
    done("fit", "--resume", "--out", "sharded", "--train.fsdp", cwd=tmp_path)
    assert distance(tmp_path / "whole", tmp_path / "sharded") < 1e-3


def children(parent: int) -> list[int]:
    """Return the processes of a launcher."""
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


@pytest.mark.slow
def test_an_interrupt_saves_once(tmp_path: pathlib.Path) -> None:
    """Ctrl-C reaches launcher and processes alike, and the launcher passes it on once more."""
    process = start(*FIT, "--steps", 4000, "--out", "paused", cwd=tmp_path)
    wait_for_step(tmp_path / "paused", 20, process)
    workers = children(process.pid)
    for each in (*workers, process.pid):
        os.kill(each, signal.SIGINT)
    status, _, err = finish(process)
    assert status != 0
    assert err.count("Continue with: feller fit --resume --out paused") == 1, err
    step = read_json(tmp_path / "paused" / "state.json")["step"]
    assert 10 < step < 4000
    out, _ = done("fit", "--resume", "--out", "paused", "--steps", step + 10, "--json", cwd=tmp_path)
    assert json.loads(out.splitlines()[-1])["steps"] == step + 10


@pytest.mark.slow
def test_two_machines(tmp_path: pathlib.Path) -> None:
    """Two launchers that find each other at an address fit one model, whose files the first one writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = []
    for rank in range(2):
        launcher = ("-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1")
        there = ("--rdzv-backend", "static", "--master-addr", "127.0.0.1", "--master-port", str(port))
        words = (*FIT, "--steps", 20, "--out", "shared", "--json")
        nodes.append(start(*words, cwd=tmp_path, launcher=(*launcher, *there)))
    ends = [finish(node) for node in nodes]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert json.loads(ends[0][1].splitlines()[-1])["steps"] == 20
    assert not ends[1][1]
    assert "example:moons" not in ends[1][2]
    done(*FIT, "--steps", 20, "--out", "one", cwd=tmp_path, launcher=())
    assert distance(tmp_path / "one", tmp_path / "shared") < 1e-4


@pytest.fixture
def people(tmp_path: pathlib.Path) -> tuple[str, ...]:
    """A private fit of a small table."""
    generator = torch.Generator().manual_seed(0)
    ages = torch.randint(18, 80, (300,), generator=generator).tolist()
    (tmp_path / "people.csv").write_text("age,sex\n" + "".join(f"{age},{'FM'[age % 2]}\n" for age in ages))
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return (
        "fit",
        "people.csv",
        "--schema",
        "schema.json",
        "--size",
        "tiny",
        "--steps",
        "6",
        "--train.batch-size",
        "32",
    )


@pytest.mark.slow
def test_private_fits_promise_and_learn_the_same(tmp_path: pathlib.Path, people: tuple[str, ...]) -> None:
    """The same ledger, epsilon, coins and noise; the first process alone adds noise, and writes."""
    alone = (*people, "--objective.marginals-budget", "0", "--train.warmup", "1")  # nothing is learned before the rows
    words = (*alone, "--epsilon", "4", "--unsafe-seed", "1", "--json")
    numbers = [
        json.loads(done(*words, "--out", name, cwd=tmp_path, launcher=launcher)[0].splitlines()[-1])
        for name, launcher in (("one", ()), ("two", TWO))
    ]
    assert numbers[0]["epsilon"] == numbers[1]["epsilon"] <= 4
    ledgers = [read_json(tmp_path / name / "ledger.json") for name in ("one", "two")]
    assert ledgers[0] == ledgers[1]
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-4
    done(*alone, "--noise", "5", "--stop-at-epsilon", "4", "--unsafe-seed", "1", "--out", "loud", cwd=tmp_path)
    assert distance(tmp_path / "one", tmp_path / "loud") > 1e-3


@pytest.mark.slow
def test_secret_coins_are_agreed_upon(tmp_path: pathlib.Path, people: tuple[str, ...]) -> None:
    """Without a seed the processes share a key that is written nowhere; another run has another one."""
    for name in ("one", "two"):
        done(*people, "--epsilon", "4", "--out", name, cwd=tmp_path)
    records = [read_json(tmp_path / name / "recipe.json")["provenance"] for name in ("one", "two")]
    assert records[0]["salt"] != records[1]["salt"]
    assert all("key" not in str(record["private"]) for record in records)
    assert distance(tmp_path / "one", tmp_path / "two") > 1e-4
    for flag in ("--train.fsdp", "--train.compile"):
        status, _, err = finish(start(*people, "--epsilon", "4", flag, "--out", "no", cwd=tmp_path, launcher=()))
        assert status == 2
        assert flag in err


@pytest.mark.slow
def test_accelerate_launches_it_too(tmp_path: pathlib.Path) -> None:
    """With --cpu it would start one process; of several, those that have no device compute on the processor."""
    launcher = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
    more = ("--mixed_precision", "no", "--dynamo_backend", "no")
    words = (*FIT, "--steps", 12, "--out", "launched", "--json")
    out, _ = done(*words, cwd=tmp_path, launcher=(*launcher, *more))
    assert json.loads(out.splitlines()[-1])["steps"] == 12  # one object, of the first process
    done(*FIT, "--steps", 12, "--out", "one", cwd=tmp_path, launcher=())
    assert 0 < distance(tmp_path / "one", tmp_path / "launched") < 1e-4


@pytest.mark.slow
def test_what_is_refused_deletes_and_spends_nothing(tmp_path: pathlib.Path, people: tuple[str, ...]) -> None:
    """Also where only one process would refuse it, and where a run is to be replaced."""
    done(*FIT, "--steps", "3", "--out", "old", cwd=tmp_path, launcher=())
    before = (tmp_path / "old" / "weights.safetensors").read_bytes()
    found = [word for word in people if word not in ("--schema", "schema.json")]
    words = (*found, "--epsilon", "4", "--clip", "adaptive", "--out", "old", "--overwrite")
    status, _, err = finish(start(*words, cwd=tmp_path))
    assert status != 0
    assert [line for line in spoken(err) if "--clip adaptive needs" in line], err
    assert "has spent" not in err
    assert (tmp_path / "old" / "weights.safetensors").read_bytes() == before
