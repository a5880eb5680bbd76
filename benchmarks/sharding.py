"""python -m benchmarks.sharding: samples per second of two processes of one thread each, beside one such.

One round is a sampling in shards by one process and then one by two, both started by `torchrun`. Seconds are those from
when the folder is claimed, all processes being ready, to when the manifest is whole: starting does not count, writing
and hashing do. The best of five rounds is taken of each, as the machine may be shared; two cores must be free.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from feller.core.output_shards import MANIFEST

MIN_SPEEDUP = 1.8
"""Minimum samples per second of two processes, as a multiple of those of one."""
FIT = ("fit", "example:moons", "--recipe", "points", "--architecture.width", "128", "--architecture.depth", "4")
SHARD, SHARDS, CALLS = 4096, 16, 32


def feller(home: pathlib.Path, launch: tuple[str, ...], *words: object) -> None:
    """Run a command with one thread a process."""
    done = subprocess.run(
        [sys.executable, *launch, "-m", "feller", *map(str, words)],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)


def seconds(home: pathlib.Path, ranks: int, shards: int) -> float:
    """Draw all shards and return how long that took."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks))
    words = ("sample", "run", "-n", SHARD * shards, "--shard-size", SHARD, "--nfe", CALLS)
    shutil.rmtree(home / "many", ignore_errors=True)
    feller(home, launch, *words, "--out", "many")
    begun, ended = (home / "many" / "lock").stat().st_mtime_ns, (home / "many" / MANIFEST).stat().st_mtime_ns
    return (ended - begun) / 1e9


def main() -> int:
    """Print seconds of each round, and the ratio of the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shards", type=int, default=SHARDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        feller(home, (), *FIT, "--steps", 2, "--out", "run")
        rounds = []
        for _ in range(options.rounds):
            rounds.append([seconds(home, ranks, options.shards) for ranks in (1, 2)])
            print(f"one process {rounds[-1][0]:.2f} s, two {rounds[-1][1]:.2f} s", flush=True)
    one, two = (min(times) for times in zip(*rounds, strict=True))
    n, ratio = options.shards * SHARD, one / two
    print(f"best: {n / one:,.0f} and {n / two:,.0f} samples a second, x{ratio:.2f}, x{MIN_SPEEDUP:g} required")
    return 0 if ratio >= MIN_SPEEDUP else 1


if __name__ == "__main__":
    sys.exit(main())
