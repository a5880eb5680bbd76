"""Kill a command at random moments until it finishes."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Killed:
    kills: int
    """Times it was killed while it ran."""
    err: str
    """What the last one said."""


def killed(
    first: Sequence[object],
    again: Callable[[], Sequence[object] | None],
    cwd: pathlib.Path,
    *,
    kills: int,
    seed: int,
    ready: Callable[[], bool],
    longest: float,
    prelude: str = "",
) -> Killed:
    """Run a command of feller, kill it and go on, so many times; then let it end.

    Args:
        first: Words of the command.
        again: Returns the words that go on; None if nothing is there yet, so that it starts anew.
        cwd: Where it runs.
        kills: How many times.
        seed: Of the moments.
        ready: Whether what is to be killed has begun; moments count from then.
        longest: Seconds after that, at most.
        prelude: Python that runs before, such as what makes saves frequent.

    Raises:
        AssertionError: If it fails by itself.
    """
    moments, done = random.Random(seed), 0
    while True:
        words = [str(word) for word in (again() or first)]
        code = f"{prelude}\nimport sys\nfrom feller.app.cli import main\nsys.exit(main({words!r}))"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done < kills:
            while process.poll() is None and not ready():
                time.sleep(0.005)
            time.sleep(moments.uniform(0, longest))
            process.send_signal(signal.SIGKILL)
        err = process.communicate(timeout=240)[1]
        if process.returncode == 0:
            return Killed(done, err)
        assert process.returncode == -signal.SIGKILL, err
        done += 1
