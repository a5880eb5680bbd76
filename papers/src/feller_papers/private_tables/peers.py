"""Synthetic rows of other programs: each runs as a script in an interpreter of its own.

The environment variable FELLER_PEERS names a folder of virtual environments; a program whose environment is not there
is "not installed".
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

VARIABLE = "FELLER_PEERS"
SCRIPTS = pathlib.Path(__file__).parent / "peer_scripts"
CPU_LIMIT = 900
"""CPU seconds for fit and samples together, with the start of the interpreter."""
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
    """True if the method exists only with a budget."""

    def takes(self, budget: Budget) -> bool:
        """Return True if the method can be run with a budget."""
        return not self.needs_budget if budget.epsilon is None else self.is_private

    def interpreter(self) -> pathlib.Path | None:
        """Return the Python of the virtual environment; None if it is not installed."""
        folder = folder_of_peers()
        names = ("bin/python", "Scripts/python.exe")
        places = [] if folder is None else [folder / self.environment / name for name in names]
        return next((place for place in places if place.exists()), None)


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
    """Synthetic rows of a peer, or the reason why there are none."""

    rows: pd.DataFrame | None
    """Text cells."""
    seconds: float
    """CPU seconds of the process: start, fit and samples."""
    reason: str = ""


def folder_of_peers() -> pathlib.Path | None:
    """Return the folder that the environment variable names."""
    named = os.environ.get(VARIABLE)
    return pathlib.Path(named) if named else None


def peer_rows(peer: Peer, table: PackagedTable, train: pd.DataFrame, budget: Budget, seed: int) -> PeerRows:
    """Fit a peer to training rows and sample as many rows.

    Finished rows are kept in the folder `samples` of the folder of peers, and read from there the next time.
    """
    interpreter, folder = peer.interpreter(), folder_of_peers()
    if interpreter is None or folder is None:
        return PeerRows(None, 0.0, NOT_INSTALLED)
    kept = folder / "samples"
    kept.mkdir(exist_ok=True)
    words = (table.title, peer.name, budget.name, str(len(train)), str(seed))
    stem = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower())
    rows, record = kept / f"{stem}.csv", kept / f"{stem}.json"
    if not record.exists():
        record.write_text(json.dumps(_run(peer, interpreter, table, train, budget, seed, rows)), encoding="utf-8")
    told = json.loads(record.read_text(encoding="utf-8"))
    found = None if told["reason"] else pd.read_csv(rows, dtype=str, keep_default_na=False)
    return PeerRows(found, told["seconds"], told["reason"])


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
        place = pathlib.Path(folder)
        train.to_csv(place / "train.csv", index=False)
        (place / "task.json").write_text(json.dumps({**task, "seed": seed, "rows": len(train)}), encoding="utf-8")
        arguments = [peer.method, place / "train.csv", place / "task.json", out]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        before = _children_seconds()
        ended = subprocess.run(
            [interpreter, peer.script, *arguments],
            cwd=folder,
            env={**environment, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=_cpu_limit(),
        )
        seconds = _children_seconds() - before
    if ended.returncode == 0 and out.exists():
        return {"seconds": seconds, "reason": ""}
    if ended.returncode < 0 and seconds >= CPU_LIMIT - 1:  # ended by a signal
        return {"seconds": seconds, "reason": f"over {CPU_LIMIT} CPU seconds"}
    last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
    return {"seconds": seconds, "reason": f"failed: {last}"}


def _children_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system


def _cpu_limit() -> Callable[[], None] | None:
    """Return the function that limits the CPU time of a new process; None where there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 5))
