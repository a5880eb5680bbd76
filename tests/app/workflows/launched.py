"""Commands in processes of their own, alone or under a launcher."""

import os
import pathlib
import socket
import subprocess
import sys
import time

from feller.core.safetensors_io import load_tensors

ROOT = pathlib.Path(__file__).parents[3]
LAUNCHER = ("-m", "torch.distributed.run")


def launcher(ranks):
    return (*LAUNCHER, "--standalone", "--master-port", "0", "--nproc-per-node", str(ranks))


def start(*words, cwd, launcher=(), program=("-m", "feller")):
    """Start a program, by default the command line."""
    more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "XDG_DATA_HOME": str(cwd / "home")}
    command = [sys.executable, *map(str, (*launcher, *program, *words))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, env={**os.environ, **more}, text=True, start_new_session=True, **pipes)


def finish(process, timeout=280):
    """Return status, output and errors."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def done(*words, **how):
    """Return the output of a program that succeeds."""
    status, out, err = finish(start(*words, **how))
    assert status == 0, err
    return out


def wait_for_step(run, step, process):
    for _ in range(2400):
        metrics = run / "metrics.jsonl"
        if (run / "state.json").is_file() and metrics.is_file() and len(metrics.read_text().splitlines()) > step // 10:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("training never got there")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def distance(one, two):
    """Return the largest difference between weights and EMA weights of two runs."""
    apart = []
    for name in ("weights.safetensors", "average.safetensors"):
        first, second = load_tensors(one / name)[0], load_tensors(two / name)[0]
        assert first.keys() == second.keys()
        apart += [(first[key] - second[key]).abs().max().item() for key in first]
    return max(apart)
