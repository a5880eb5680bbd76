"""Files of run folders for tests that damage them."""

import functools
import io
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from feller.app.modalities.registration import find_recipe
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.run_config import read_fit_record
from feller.app.workflows.run_status import read_report_summary
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.core.serialization import from_dict
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.tables.schema import read_schema
from feller.evaluation.judge import Judge, _network, load_judge, save_judge
from feller.models.model import load_model
from feller.models.recipes.recipe import Recipe
from feller.models.spec import save_spec
from feller.sampling.retrieval.datastore import DatastoreOrigin, load_datastore
from feller.training.callbacks import MetricsWriter
from feller.training.checkpoint import read_counters
from tests.safety.specimens import SCHEMA

KEPT = pathlib.Path(__file__).parent / "formats"
"""A run of points in each format but the present; made by `feller fit example:moons --recipe points
--architecture.width 4 --architecture.depth 1 --steps 4 --train.batch 16 --sampling.calls 4`, without its report; from
format 3 on of example:cells."""
LEDGER = {
    "format": 1,
    "version": "0.1.0",
    "expenses": [{"is": "Subsampled", "what": "training", "sigma": 1.5, "rate": 0.01, "steps": 25}],
    "delta": 1e-05,
    "n": 1000,
    "reserved": 0.0,
    "table": "",
}
REPORT = {
    "verdict": "Poor: far.",
    "sketch": "",
    "numbers": {"energy": 0.5, "compared_with": "held-out data", "steps": 4, "nll": None},
    "explanations": {"energy": "A distance."},
}


def copied(folder: pathlib.Path, written: int = 1) -> Run:
    """Return a copy of the run that is kept in a format."""
    shutil.copytree(KEPT / str(written), folder, dirs_exist_ok=True)
    return Run(folder)


KINDS = {
    "table": ("table", "age,sex,town\n" + "".join(f"{20 + i},{'mf'[i % 2]},{'abc'[i % 3]}\n" for i in range(30))),
    "table-flow": (
        "table-flow",
        "age,sex,town\n" + "".join(f"{i}.5,{'mf'[i % 2]},{'abc'[i % 3]}\n" for i in range(30)),
    ),
    "text": ("text", "the cat sat\non a hat\n" * 10),
    "text-uniform": ("text-uniform", "the cat sat\non a hat\n" * 10),
    "text-autoregressive": ("text-autoregressive", "the cat sat\non a hat\n" * 10),
    "levels-mask": ("levels-mask", ""),
    "image-label": ("image-label", ""),
}
"""Recipes of models of symbols, and the data of each, where they are no digits."""


@functools.cache
def _untrained(kind: str) -> dict[str, bytes]:
    """Return the files of a run whose weights have learned nothing."""
    recipe, content = KINDS[kind]
    with tempfile.TemporaryDirectory() as home:
        path = pathlib.Path(home) / ("a.csv" if content.startswith("age,") else "a.txt")
        path.write_text(content)
        data = read(str(path)) if content else read("example:digits").subset(torch.arange(64))
        if kind.startswith("table"):
            data = data.modality.for_metrics(data)
        _, chosen = find_recipe(recipe, data, "tiny")
        data = data.with_modality(chosen.modality or data.modality)
        description, run = chosen.model_spec(data), Run(pathlib.Path(home) / "r")
        if recipe not in ("table", "text-autoregressive"):  # few calls are enough to meet what is damaged
            description = replace(description, sampling=replace(description.sampling, nfe=4))
        run.path.mkdir()
        save_spec(run, description)
        save_tensors(run.ema_weights, description.build(Rng(0)).state_dict())
        return {file.name: file.read_bytes() for file in run.path.iterdir()}


def untrained(kind: str, folder: pathlib.Path) -> Run:
    """Write a run of a kind whose weights have learned nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _untrained(kind).items():
        (folder / name).write_bytes(content)
    return Run(folder)


@dataclass(frozen=True)
class RunFile:
    """A file of a run."""

    name: str
    make: Callable[[], bytes]
    read: Callable[[Run], object]
    copied: Callable[[pathlib.Path], Run] = copied
    """Writes the run that it is damaged in."""

    def write(self, folder: pathlib.Path, content: bytes) -> Run:
        """Write a run with the file, or what became of it."""
        run = self.copied(folder)
        (folder / self.name).write_bytes(content)
        return run


def _kept(name: str, read: Callable[[Run], object]) -> RunFile:
    return RunFile(name, (KEPT / "1" / name).read_bytes, read)


def _sampled(run: Run) -> object:
    return load_model(run).sample_dataset(2, rng=Rng(0))


def _of(kind: str, name: str) -> RunFile:
    return RunFile(name, lambda: _untrained(kind)[name], _sampled, functools.partial(untrained, kind))


def _judge() -> bytes:
    pictures = Images(8, 8, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "judge.safetensors"
        save_judge(path, Judge(_network(pictures, "rotation", Rng(0)), pictures, "rotation", "nothing", 0.5))
        return path.read_bytes()


S, MAKERS = DocumentVocabulary(text=20, codes=9, picture=1), DatastoreOrigin("palette", "letters", "finder")


def _memory() -> bytes:
    file = io.BytesIO()
    rows = [[S.eos, k, S.break_token, S.text + k, S.break_token] for k in (1, 2)]
    arrays = {"rows": rows, "vectors": np.ones((2, 2), np.float32), "both": [True, True], "symbols": [20, 9, 1]}
    np.savez(file, **arrays, makers=["palette", "letters", "finder"])  # pyrefly: ignore
    return file.getvalue()


FILES = {
    "model.json": _kept("model.json", _sampled),
    "average.safetensors": _kept("average.safetensors", _sampled),
    **{
        f"{name} of {kind}": _of(kind, name)
        for kind in ("table", "table-flow", "text")
        for name in ("model.json", "average.safetensors")
    },
    "recipe.json": _kept(
        "recipe.json", lambda run: (read_fit_record(run), from_dict(Recipe, run.read_record(run.recipe)["recipe"]))
    ),
    "state.json": _kept("state.json", read_counters),
    "report.json": RunFile("report.json", json.dumps(REPORT).encode, read_report_summary),
    "state.safetensors": _kept("state.safetensors", lambda run: load_tensors(run.state)),
    "metrics.jsonl": _kept("metrics.jsonl", lambda run: MetricsWriter(run.metrics, 4).close()),
    "ledger.json": RunFile(
        "ledger.json", json.dumps(LEDGER).encode, lambda run: (ledger := ledger_of(run)) and ledger.describe_events()
    ),
    "judge.safetensors": RunFile("judge.safetensors", _judge, lambda run: load_judge(run.judge)),
    "memory.npz": RunFile("memory.npz", _memory, lambda run: load_datastore(run.path / "memory.npz", S, MAKERS)),
    "schema.json": RunFile("schema.json", json.dumps(SCHEMA).encode, lambda run: read_schema(run.path / "schema.json")),
}
