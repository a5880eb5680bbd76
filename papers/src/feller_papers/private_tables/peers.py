"""Synthetic rows of other programs, each run as a script in its own virtual environment.

The environment variable FELLER_PEERS names the folder of virtual environments; a program without an environment is
"not installed".
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from feller_papers.private_tables.packaged_tables import PackagedTable
from feller_papers.private_tables.setting import Budget

PEERS_VARIABLE = "FELLER_PEERS"
SCRIPTS = pathlib.Path(__file__).parent / "peer_scripts"
CPU_LIMIT = 900
"""CPU seconds of the process: start, fit and samples."""
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Peer:
    """A method of another program."""

    name: str
    environment: str
    """Folder of the virtual environment in the folder of peers."""
    script: pathlib.Path
    method: str
    """Name of the method for the script."""
    is_private: bool = True
    """True if the method takes a budget."""
    needs_budget: bool = False
    """True if the method cannot run without a budget."""

    def supports(self, budget: Budget) -> bool:
        """Return True if the method can run with a budget."""
        return not self.needs_budget if budget.epsilon is None else self.is_private

    def interpreter(self) -> pathlib.Path | None:
        """Return the Python of the virtual environment; None if it is not installed."""
        folder = peers_folder()
        names = ("bin/python", "Scripts/python.exe")
        candidates = [] if folder is None else [folder / self.environment / name for name in names]
        return next((python for python in candidates if python.exists()), None)


PEERS = (
    Peer("mostlyai-engine TabularARGN", "mostlyai", SCRIPTS / "tabular_argn.py", "TabularARGN"),
    Peer("SDV Gaussian copula", "sdv", SCRIPTS / "sdv_single_table.py", "Gaussian copula", is_private=False),
    Peer("SDV CTGAN", "sdv", SCRIPTS / "sdv_single_table.py", "CTGAN", is_private=False),
    Peer("smartnoise AIM", "smartnoise", SCRIPTS / "smartnoise.py", "AIM", needs_budget=True),
    Peer("smartnoise MST", "smartnoise", SCRIPTS / "smartnoise.py", "MST", needs_budget=True),
    Peer("smartnoise DPCTGAN", "smartnoise", SCRIPTS / "smartnoise.py", "DPCTGAN", needs_budget=True),
    Peer("private-pgm AIM", "private-pgm", SCRIPTS / "private_pgm.py", "AIM", needs_budget=True),
    Peer("private-pgm MST", "private-pgm", SCRIPTS / "private_pgm.py", "MST", needs_budget=True),
)


@dataclass(frozen=True, eq=False)
class PeerRows:
    """Synthetic rows of a peer, or the reason why they are missing."""

    rows: pd.DataFrame | None
    """Text cells."""
    seconds: float
    """CPU seconds of the process: start, fit and samples."""
    reason: str = ""


def peers_folder() -> pathlib.Path | None:
    """Return the folder of the environment variable; None if it is not set."""
    folder = os.environ.get(PEERS_VARIABLE)
    return pathlib.Path(folder) if folder else None


def sample_peer(peer: Peer, table: PackagedTable, train: pd.DataFrame, budget: Budget, seed: int) -> PeerRows:
    """Return as many samples of a peer as training rows.

    Samples are cached in the folder `samples` of the folder of peers.
    """
    interpreter, folder = peer.interpreter(), peers_folder()
    if interpreter is None or folder is None:
        return PeerRows(None, 0.0, NOT_INSTALLED)
    samples = folder / "samples"
    samples.mkdir(exist_ok=True)
    parts = (table.title, peer.name, budget.name, str(len(train)), str(seed))
    stem = re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower())
    rows, record = samples / f"{stem}.csv", samples / f"{stem}.json"
    if not record.exists():
        record.write_text(json.dumps(_run(peer, interpreter, table, train, budget, seed, rows)), encoding="utf-8")
    result = json.loads(record.read_text(encoding="utf-8"))
    frame = None if result["reason"] else pd.read_csv(rows, dtype=str, keep_default_na=False)
    return PeerRows(frame, result["seconds"], result["reason"])


def _run(
    peer: Peer,
    interpreter: pathlib.Path,
    table: PackagedTable,
    train: pd.DataFrame,
    budget: Budget,
    seed: int,
    out: pathlib.Path,
) -> dict[str, float | str]:
    task = {"columns": table.public_columns(), "epsilon": budget.epsilon, "delta": budget.delta}
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        train.to_csv(directory / "train.csv", index=False)
        (directory / "task.json").write_text(json.dumps({**task, "seed": seed, "rows": len(train)}), encoding="utf-8")
        arguments = [peer.method, directory / "train.csv", directory / "task.json", out]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        start = _children_seconds()
        process = subprocess.run(
            [interpreter, peer.script, *arguments],
            cwd=folder,
            env={**environment, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=_cpu_limit(),
        )
        seconds = _children_seconds() - start
    if process.returncode == 0 and out.exists():
        return {"seconds": seconds, "reason": ""}
    if process.returncode < 0 and seconds >= CPU_LIMIT - 1:  # killed by a signal
        return {"seconds": seconds, "reason": f"over {CPU_LIMIT} CPU seconds"}
    last_line = (process.stderr.strip().splitlines() or ["no message"])[-1]
    return {"seconds": seconds, "reason": f"failed: {last_line}"}


def _children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _cpu_limit() -> Callable[[], None] | None:
    """Return the function that limits the CPU time of a new process; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 5))
