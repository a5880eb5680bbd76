"""A table of a million rows and 15 columns of all kinds, from a file to codes, against the bare parse of pandas."""

import functools
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

import feller
from benchmarks.timing import Case
from feller import FittedRun
from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.workflows.sample import sample
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset

ROWS = 1_000_000
GAPS = 0.03
"""Share of the cells that are missing, in four columns."""
SECONDS, MEMORY = 20, 2**31
"""That reading and encoding may take, and bytes."""
SAMPLING_SECONDS = 300


def cases() -> Iterator[Case]:
    yield Case(
        f"a table of {ROWS:,} x 15: read, described and encoded",
        {"feller": lambda: len(_data()), "floor, pandas.read_csv": lambda: len(pd.read_csv(_file()))},
        repeat=1,
        max_milliseconds=SECONDS * 1000,
        note=_memory,
    )
    yield Case(
        f"{ROWS // 10:,} rows of it as a data frame",
        {
            "feller": lambda: len(_some().frame()),
            "floor, pandas.read_csv": lambda: len(pd.read_csv(_file(), nrows=10**5)),
        },
        repeat=1,
    )
    yield Case(
        f"{ROWS:,} rows of a private model of its marginals, sampled and written to a .csv",
        {"feller": _write_samples, "floor, pandas": lambda: pd.read_csv(_file()).to_csv(_samples())},
        repeat=1,
        max_milliseconds=SAMPLING_SECONDS * 1000,
    )


def _samples() -> pathlib.Path:
    return pathlib.Path(_folder().name) / "samples.csv"


@functools.cache
def _run() -> FittedRun:
    out = str(pathlib.Path(_folder().name) / "run")
    return feller.fit(_some().frame(), epsilon=3.0, recipe="table-marginals", report=False, out=out)


def _write_samples() -> None:
    config = config_of(SampleConfig, n=ROWS, out=str(_samples()), overwrite=True)
    sample(_run().folder, config, keeps_samples=False)


def _data() -> Dataset:
    return read(_file())


@functools.cache
def _some() -> Dataset:
    return _data().subset(torch.arange(ROWS // 10))


READING = """
import pathlib, sys
from feller.data.loading.dataset_reader import read
read(sys.argv[1])
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)  # ru_maxrss would include the parent's memory before exec
"""


def _memory() -> str:
    """Return the peak of a process that only reads the table."""
    done = subprocess.run([sys.executable, "-c", READING, _file()], check=True, capture_output=True, text=True)
    peak = int(done.stdout)
    return f"peak of the process {peak / 2**20:,.0f} MiB, allowed {MEMORY / 2**20:,.0f}"


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def _file() -> str:
    """Write whole numbers, decimals, dates, times, words, codes with zeros before them, truths and gaps."""
    rng, n = np.random.default_rng(0), ROWS
    frame = pd.DataFrame(
        {
            "age": rng.integers(17, 91, n),
            "pay": rng.lognormal(10, 1, n).round(2),
            "height": rng.normal(170, 10, n).round(1),
            "score": rng.normal(size=n),
            "visits": rng.poisson(3, n),
            "weight": rng.normal(70, 12, n).round(1),
            "born": pd.to_datetime("1950-01-01") + pd.to_timedelta(rng.integers(0, 20_000, n), "D"),
            "seen": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 10**8, n), "s"),
            "town": rng.choice(["Zürich", "Łódź", "Oslo", "Rome", "Bern"], n),
            "job": rng.choice([f"job {i}" for i in range(80)], n),
            "smokes": rng.random(n) < 0.3,
            "sick": rng.choice(["yes", "no"], n),
            "code": np.char.zfill(rng.integers(1, 900, n).astype(str), 5),
            "bmi": rng.normal(25, 4, n).round(2),
            "id": np.char.add("C-", np.char.zfill(np.arange(n).astype(str), 7)),
        }
    )
    for name in ("height", "visits", "job", "bmi"):
        frame[name] = frame[name].astype(object).where(rng.random(n) >= GAPS, None)
    path = pathlib.Path(_folder().name) / "table.csv"
    frame.to_csv(path, index=False)
    return str(path)
