"""Fits in several processes: killed, interrupted, on two machines, and private."""

import functools
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch

from feller.core.serialization import read_json
from tests.app.workflows import launched
from tests.app.workflows.launched import LAUNCHER, distance, finish, free_port, launcher, wait_for_step

pytestmark = pytest.mark.slow

done = functools.partial(launched.done, launcher=launcher(2))
start = functools.partial(launched.start, launcher=launcher(2))
alone = launched.done
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


def errors(err):
    return [line for line in err.splitlines() if line.startswith("feller")]


def last(out):
    return json.loads(out.splitlines()[-1])


def test_error_of_all_processes_is_printed_once(tmp_path):
    status, out, err = finish(start("fit", "nowhere.csv", "--json", cwd=tmp_path))
    assert status != 0
    assert not out
    (line,) = (line for line in errors(err) if line.startswith(("feller:", "feller (")))
    assert "nowhere.csv" in line


@pytest.mark.parametrize("rank", ["0", "1"])
def test_error_of_one_process_ends_all(tmp_path, rank):
    begun = time.monotonic()
    status, _, err = finish(start("fail", rank, cwd=tmp_path, program=("-m", "tests.app.workflows.families")))
    assert status != 0
    assert "Traceback (most recent call last):\n  File" not in err.split("torch/distributed")[0]
    assert time.monotonic() - begun < 120
    name = "feller" if rank == "0" else "feller (process 1)"
    assert [line for line in errors(err) if "gone" in line] == [f"{name}: the data of this process are gone"]


def children(parent):
    """Return the processes of a launcher."""
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


def test_killed_fit_resumes_with_any_number_of_processes(tmp_path):
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
    alone("fit", "--resume", "--out", "alone", cwd=tmp_path)
    assert 0 < distance(tmp_path / "whole", tmp_path / "alone") < 1e-3
    done("fit", "--resume", "--out", "sharded", "--train.fsdp", cwd=tmp_path)
    assert distance(tmp_path / "whole", tmp_path / "sharded") < 1e-3


def test_interrupt_saves_once(tmp_path):
    """Ctrl-C reaches launcher and processes alike, and the launcher passes it on once more."""
    process = start(*FIT, "--steps", 4000, "--out", "paused", cwd=tmp_path)
    wait_for_step(tmp_path / "paused", 20, process)
    for each in (*children(process.pid), process.pid):
        os.kill(each, signal.SIGINT)
    status, _, err = finish(process)
    assert status != 0
    assert err.count("feller fit --resume --out paused") == 1, err
    step = read_json(tmp_path / "paused" / "state.json")["step"]
    assert 10 < step < 4000
    out = done("fit", "--resume", "--out", "paused", "--steps", step + 10, "--json", cwd=tmp_path)
    assert last(out)["steps"] == step + 10


def test_two_machines_fit_one_model(tmp_path):
    place = ("--rdzv-backend", "static", "--master-addr", "127.0.0.1", "--master-port", free_port())
    nodes = [
        launched.start(
            *(*FIT, "--steps", 20, "--out", "shared", "--json"),
            cwd=tmp_path,
            launcher=(*LAUNCHER, "--nnodes", 2, "--node-rank", rank, "--nproc-per-node", 1, *place),
        )
        for rank in range(2)
    ]
    ends = [finish(node) for node in nodes]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert last(ends[0][1])["steps"] == 20
    assert not ends[1][1]
    assert "example:moons" not in ends[1][2]
    alone(*FIT, "--steps", 20, "--out", "one", cwd=tmp_path)
    assert distance(tmp_path / "one", tmp_path / "shared") < 1e-4


def test_accelerate_launches_fits_too(tmp_path):
    """With --cpu it would start one process; of several, those without a device compute on the processor."""
    command = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
    command += ("--mixed_precision", "no", "--dynamo_backend", "no")
    out = alone(*FIT, "--steps", 12, "--out", "launched", "--json", cwd=tmp_path, launcher=command)
    assert last(out)["steps"] == 12  # one object, of the first process
    alone(*FIT, "--steps", 12, "--out", "one", cwd=tmp_path)
    assert 0 < distance(tmp_path / "one", tmp_path / "launched") < 1e-4


@pytest.fixture
def people(tmp_path):
    """Return the words of a private fit of a small table."""
    ages = torch.randint(18, 80, (300,), generator=torch.Generator().manual_seed(0)).tolist()
    (tmp_path / "people.csv").write_text("age,sex\n" + "".join(f"{age},{'FM'[age % 2]}\n" for age in ages))
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return ("fit", "people.csv", "--schema", "schema.json", "--size", "tiny", "--steps", 6, "--train.batch-size", 32)


def test_private_fit_does_not_depend_on_the_number_of_processes(tmp_path, people):
    """The same ledger, epsilon and noise; the first process alone adds noise, and writes."""
    plain = (*people, "--objective.marginals-budget", "0", "--train.warmup", "1")  # nothing is learned before the rows
    words = (*plain, "--epsilon", "4", "--unsafe-seed", "1", "--json")
    one, two = (last(fit(*words, "--out", name, cwd=tmp_path)) for name, fit in (("one", alone), ("two", done)))
    assert one["epsilon"] == two["epsilon"] <= 4
    assert read_json(tmp_path / "one" / "ledger.json") == read_json(tmp_path / "two" / "ledger.json")
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-4
    done(*plain, "--noise", "5", "--stop-at-epsilon", "4", "--unsafe-seed", "1", "--out", "loud", cwd=tmp_path)
    assert distance(tmp_path / "one", tmp_path / "loud") > 1e-3


def test_processes_share_a_secret_key_that_is_not_written(tmp_path, people):
    for name in ("one", "two"):
        done(*people, "--epsilon", "4", "--out", name, cwd=tmp_path)
    one, two = (read_json(tmp_path / name / "recipe.json")["provenance"] for name in ("one", "two"))
    assert one["salt"] != two["salt"]
    assert "key" not in str(one["private"]) + str(two["private"])
    assert distance(tmp_path / "one", tmp_path / "two") > 1e-4
    for flag in ("--train.fsdp", "--train.compile"):
        status, _, err = finish(launched.start(*people, "--epsilon", "4", flag, "--out", "no", cwd=tmp_path))
        assert status == 2
        assert flag in err


def test_refused_fit_deletes_and_spends_nothing(tmp_path, people):
    """Also where only one process would refuse it, and where a run is to be replaced."""
    alone(*FIT, "--steps", "3", "--out", "old", cwd=tmp_path)
    before = (tmp_path / "old" / "weights.safetensors").read_bytes()
    words = (word for word in people if word not in ("--schema", "schema.json"))
    status, _, err = finish(
        start(*words, "--epsilon", "4", "--clip", "adaptive", "--out", "old", "--overwrite", cwd=tmp_path)
    )
    assert status != 0
    assert [line for line in errors(err) if "--clip" in line], err
    assert not (tmp_path / "old" / "spent").exists()
    assert (tmp_path / "old" / "weights.safetensors").read_bytes() == before
