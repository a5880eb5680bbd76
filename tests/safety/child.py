"""Commands in subprocesses with resource limits."""

import os
import pathlib
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

ROOM = 1_000 * 2**20
"""Bytes of memory beyond what is needed to start, which nothing of a stranger's may take."""


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    status: int
    out: str
    err: str
    peak: int
    """Bytes of memory that it held, at most."""


def feller(*words: object, cwd: pathlib.Path, limits: Callable[[], None] = lambda: None, python: str = "") -> Done:
    """Run a command, or Python, and measure it; it is killed if it takes more than 12 GiB, to spare the machine."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
        limits()

    told = "import resource, sys; sys.stderr.write(f'\\nPEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}')"
    code = python or f"from feller.app.cli import main; status = main({[str(word) for word in words]!r})"
    done = subprocess.run(
        [sys.executable, "-c", f"status = 0\n{code}\n{told}\nsys.exit(status)"],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    err, _, peak = done.stderr.rpartition("\nPEAK ")
    return Done(done.returncode, done.stdout, err if peak.isdecimal() else done.stderr, 1024 * int(peak or 0))
