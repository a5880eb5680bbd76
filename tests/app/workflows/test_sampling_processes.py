"""Samples and reports of several processes of `torchrun` are those of one; flat memory."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from feller.app.cli import main
from tests.safety.child import feller

ROOT = pathlib.Path(__file__).parents[3]
TINY = ("--recipe", "points", "--architecture.width", "8", "--architecture.depth", "1", "--steps", "2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    home = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        assert main(["fit", "example:moons", *TINY, "--sampling.nfe", "2", "--out", str(home / "run")]) == 0
    return home


def start(home: pathlib.Path, launch: tuple[object, ...], words: tuple[object, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, launch), "-m", "feller", *map(str, words)],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return out


def several(home: pathlib.Path, ranks: int, *words: object) -> str:
    return ended(start(home, ("--standalone", "--nproc-per-node", ranks), words))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def alone(home: pathlib.Path, *words: object) -> str:
    done = feller(*words, cwd=home)
    assert done.status == 0, done.err
    return done.out


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_shards_of_several_processes(home: pathlib.Path, ranks: int) -> None:
    asked = ("sample", "run", "-n", 2000, "--shard-size", 300)
    alone(home, *asked, "--out", f"one-{ranks}")
    out = several(home, ranks, *asked, "--out", f"many-{ranks}", "--json")
    assert content(home / f"many-{ranks}") == content(home / f"one-{ranks}")
    assert [json.loads(line)["shards"] for line in out.splitlines()] == [7]  # the first process alone speaks


@pytest.mark.slow
def test_two_machines_on_one_loopback(home: pathlib.Path) -> None:
    asked, port = ("sample", "run", "-n", 2000, "--shard-size", 300), free_port()
    alone(home, *asked, "--out", "one-of-nodes")
    launch = ("--nnodes", 2, "--nproc-per-node", 1, "--master-addr", "127.0.0.1", "--master-port", port)
    nodes = [start(home, (*launch, "--node-rank", rank), (*asked, "--out", "nodes")) for rank in (0, 1)]
    for node in nodes:
        ended(node)
    assert content(home / "nodes") == content(home / "one-of-nodes")


@pytest.mark.slow
def test_one_file_of_two_processes(home: pathlib.Path) -> None:
    asked = ("sample", "run", "-n", 9000)
    alone(home, *asked, "--out", "one.npz")
    several(home, 2, *asked, "--out", "two.npz")
    assert (home / "two.npz").read_bytes() == (home / "one.npz").read_bytes()


@pytest.mark.slow
def test_a_report_of_two_processes(home: pathlib.Path) -> None:
    found = [json.loads(text) for text in (alone(home, "evaluate", "run", "--json"),)]
    page = (home / "run" / "report.json").read_bytes()
    found += [json.loads(line) for line in several(home, 2, "evaluate", "run", "--json").splitlines()]
    assert len(found) == 2
    assert found[1] == found[0]
    assert (home / "run" / "report.json").read_bytes() == page


@pytest.mark.slow
def test_memory_stays_as_it_is_however_many_there_are(home: pathlib.Path) -> None:
    """Samples, sources and conditions of the second would take 10 MB more if they were kept."""
    peaks = []
    for n in (10_000, 400_000):
        done = feller("sample", "run", "-n", n, "--shard-size", 5000, "--out", f"flat-{n}", cwd=home)
        assert done.status == 0, done.err
        peaks.append(done.peak)
    assert peaks[1] - peaks[0] < 6 * 2**20
