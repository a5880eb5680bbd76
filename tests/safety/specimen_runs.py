"""Files of run folders, which tests damage, and what reads each."""

import io
import json
import pathlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feller.data.documents.symbols import Symbols
from feller.data.images.modality import Images
from feller.data.table.written import read_schema
from feller.draws import Draws
from feller.evaluate.judge import Judge, _network, load_judge, save_judge
from feller.journeys.asked import asked_of
from feller.journeys.private.purse import ledger_of
from feller.model import load_model
from feller.recipes import Recipe
from feller.record import from_data
from feller.run import Run
from feller.tensors import load_tensors
from feller.tokens.retrieve.memory import Makers, load_memory
from feller.train.checkpoint import read_counters
from feller.train.metrics import MetricsWriter
from tests.safety.specimens import SCHEMA

KEPT = pathlib.Path(__file__).parent / "formats" / "1"
"""A run of points; made by `feller fit example:moons --recipe points --architecture.width 4 --architecture.depth 1
--steps 4 --train.batch 16 --sampling.calls 4`, without its report."""
LEDGER = {
    "format": 1,
    "version": "0.1.0",
    "expenses": [{"is": "Subsampled", "what": "training", "sigma": 1.5, "rate": 0.01, "steps": 25}],
    "delta": 1e-05,
    "n": 1000,
    "reserved": 0.0,
    "table": "",
}


def copied(folder: pathlib.Path) -> Run:
    """Return a copy of the run that is kept."""
    shutil.copytree(KEPT, folder, dirs_exist_ok=True)
    return Run(folder)


@dataclass(frozen=True)
class RunFile:
    """A file of a run."""

    name: str
    make: Callable[[], bytes]
    read: Callable[[Run], object]

    def write(self, folder: pathlib.Path, content: bytes) -> Run:
        """Write a run with the file, or what became of it."""
        run = copied(folder)
        (folder / self.name).write_bytes(content)
        return run


def _kept(name: str, read: Callable[[Run], object]) -> RunFile:
    return RunFile(name, (KEPT / name).read_bytes, read)


def _sampled(run: Run) -> object:
    return load_model(run).sample(2, draws=Draws(0))


def _judge() -> bytes:
    import tempfile

    pictures = Images(8, 8, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "judge.safetensors"
        save_judge(path, Judge(_network(pictures, "rotation", Draws(0)), pictures, "rotation", "nothing", 0.5))
        return path.read_bytes()


S, MAKERS = Symbols(text=20, codes=9, picture=1), Makers("palette", "letters", "finder")


def _memory() -> bytes:
    file = io.BytesIO()
    rows = [[S.eos, k, S.cut, S.text + k, S.cut] for k in (1, 2)]
    arrays = {"rows": rows, "vectors": np.ones((2, 2), np.float32), "both": [True, True], "symbols": [20, 9, 1]}
    np.savez(file, **arrays, makers=["palette", "letters", "finder"])  # pyrefly: ignore
    return file.getvalue()


FILES = {
    "model.json": _kept("model.json", _sampled),
    "average.safetensors": _kept("average.safetensors", _sampled),
    "recipe.json": _kept(
        "recipe.json", lambda run: (asked_of(run), from_data(Recipe, run.read_record(run.recipe)["recipe"]))
    ),
    "state.json": _kept("state.json", read_counters),
    "state.safetensors": _kept("state.safetensors", lambda run: load_tensors(run.state)),
    "metrics.jsonl": _kept("metrics.jsonl", lambda run: MetricsWriter(run.metrics, 4).close()),
    "ledger.json": RunFile(
        "ledger.json", json.dumps(LEDGER).encode, lambda run: (ledger := ledger_of(run)) and ledger.lines()
    ),
    "judge.safetensors": RunFile("judge.safetensors", _judge, lambda run: load_judge(run.judge)),
    "memory.npz": RunFile("memory.npz", _memory, lambda run: load_memory(run.path / "memory.npz", S, MAKERS)),
    "schema.json": RunFile("schema.json", json.dumps(SCHEMA).encode, lambda run: read_schema(run.path / "schema.json")),
}
