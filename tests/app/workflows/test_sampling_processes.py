"""Samples and reports of several processes equal those of one; memory does not grow with the number of samples."""

import json

import pytest

from feller.app.cli import main
from tests.app.workflows.launched import LAUNCHER, done, finish, free_port, launcher, start
from tests.safety.child import feller

pytestmark = pytest.mark.slow
TINY = ("--recipe", "points", "--architecture.width", "8", "--architecture.depth", "1", "--steps", "2")
SHARDS = ("sample", "run", "-n", 2000, "--shard-size", 300)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("processes")
    words = ("--sampling.nfe", "2", "--report", "none", "--out", str(home / "run"))
    assert main(["fit", "example:moons", *TINY, *words]) == 0
    return home


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


@pytest.mark.parametrize("ranks", [2, 3])
def test_shards(home, ranks):
    done(*SHARDS, "--out", f"one-{ranks}", cwd=home)
    out = done(*SHARDS, "--out", f"many-{ranks}", "--json", cwd=home, launcher=launcher(ranks))
    assert content(home / f"many-{ranks}") == content(home / f"one-{ranks}")
    assert [json.loads(line)["shards"] for line in out.splitlines()] == [7]  # of the first process alone


def test_shards_of_two_machines(home):
    done(*SHARDS, "--out", "one-of-nodes", cwd=home)
    place = ("--nnodes", 2, "--nproc-per-node", 1, "--master-addr", "127.0.0.1", "--master-port", free_port())
    nodes = [
        start(*SHARDS, "--out", "nodes", cwd=home, launcher=(*LAUNCHER, *place, "--node-rank", rank)) for rank in (0, 1)
    ]
    assert [finish(node)[0] for node in nodes] == [0, 0]
    assert content(home / "nodes") == content(home / "one-of-nodes")


def test_one_file(home):
    done("sample", "run", "-n", 9000, "--out", "one.npz", cwd=home)
    done("sample", "run", "-n", 9000, "--out", "two.npz", cwd=home, launcher=launcher(2))
    assert (home / "two.npz").read_bytes() == (home / "one.npz").read_bytes()


def test_report(home):
    numbers = json.loads(done("evaluate", "run", "--json", cwd=home))
    report = (home / "run" / "report.json").read_bytes()
    (line,) = done("evaluate", "run", "--json", cwd=home, launcher=launcher(2)).splitlines()
    assert json.loads(line) == numbers
    assert (home / "run" / "report.json").read_bytes() == report


def test_memory_is_bounded(home):
    """Samples, sources and conditions of the second would take 10 MB more if they were kept."""
    peaks = []
    for n in (10_000, 400_000):
        ran = feller("sample", "run", "-n", n, "--shard-size", 5000, "--out", f"flat-{n}", cwd=home)
        assert ran.status == 0, ran.err
        peaks.append(ran.peak)
    assert peaks[1] - peaks[0] < 6 * 2**20
