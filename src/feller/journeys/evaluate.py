"""From samples to numbers, and to a page to look at."""

import datetime
import pathlib
import platform
from dataclasses import replace
from typing import Any

import torch

from feller import __version__
from feller.data.modality import Dataset
from feller.data.read import read
from feller.draws import Draws
from feller.errors import InputError
from feller.evaluate.judge import Judge, load_judge, save_judge
from feller.evaluate.quality import EXPLAIN, quality
from feller.journeys.asked import asked_of, parts, read_again
from feller.journeys.tell import SILENT, Tell
from feller.model import load_model
from feller.record import read_json
from feller.report.page import Findings, write_report
from feller.run import Run
from feller.train.engine import engine
from feller.train.metrics import read_metrics

MOST_SAMPLES = 1000
"""Drawn for the numbers; not more than the training set holds, so that the floor is measured at the same size."""
SHOWN = 100


def evaluate(
    run: Run, *, data: str | None = None, samples: str | None = None, seed: int = 0, tell: Tell = SILENT
) -> dict[str, Any]:
    """Compare samples with real data that training did not see, and write the report.

    Args:
        run: Holds the model.
        data: Real data to compare with; by default those that the fit kept back.
        samples: Judge these instead of drawing new ones: an .npz or a folder, as `sample` writes.
        seed: Of all randomness.
        tell: Hears how it goes.

    Returns:
        The numbers that the report shows.

    Raises:
        InputError: If run, data or samples are not what they must be.
    """
    model = load_model(run)
    model.network.to(engine().device)
    modality = model.description.modality
    asked = asked_of(run)
    training_data, held_out = parts(asked, read_again(asked))
    if data is not None:
        held_out = _alike(read(data, size=asked.longest), training_data, data)
    draws = Draws(seed).named("evaluate")
    if samples is not None:
        values, given = modality.read_back(pathlib.Path(samples))
        generated = Dataset(values, given, modality, ())
    else:
        tell.task("sampling")
        n = min(MOST_SAMPLES, max(len(training_data), 2))
        generated = model.sample(n, draws=draws, tell=tell.progress)
        tell.done()
    tell.task("judging")
    found = quality(generated, training_data, held_out, draws, engine(), judge=_judge(run))
    tell.done()
    if found.judge is not None:
        save_judge(run.judge, found.judge)
    trained = read_json(run.counters) if run.counters.is_file() else {}
    numbers = {**found.numbers, "nll": None, "steps": trained.get("step"), "seconds": trained.get("seconds")}
    _report(run, numbers, found.notes, generated, held_out if len(held_out) else training_data)
    return numbers


def _judge(run: Run) -> Judge | None:
    """Return the judge of an earlier evaluation."""
    return load_judge(run.judge) if run.judge.is_file() else None


def _alike(data: Dataset, like: Dataset, name: str) -> Dataset:
    """Refuse data of another kind or size.

    Raises:
        InputError: If they cannot be compared.
    """
    mine, other = like.modality, data.modality
    if type(mine) is not type(other) or data.values.shape[1:] != like.values.shape[1:]:
        raise InputError(
            f"{name} holds {type(other).__name__} of shape {tuple(data.values.shape[1:])}; "
            f"the run was fitted to {type(mine).__name__} of shape {tuple(like.values.shape[1:])}"
        )
    return replace(data, modality=mine)


def _report(run: Run, numbers: dict[str, Any], notes: tuple[str, ...], generated: Dataset, real: Dataset) -> None:
    """Write the page and its numbers."""
    recipe = run.read_record(run.recipe)
    shown = generated.subset(_spread(generated))
    beside = real.subset(_spread(real))
    write_report(
        run.path,
        Findings(
            title=f"{recipe['asked']['data']}, fitted with the recipe {recipe['asked']['recipe']}",
            command=f"feller fit {recipe['asked']['data']} --recipe {recipe['asked']['recipe']} --out {run.path}",
            made=datetime.datetime.now(datetime.UTC).date().isoformat(),
            numbers=numbers,
            explanations=EXPLAIN,
            notes=notes,
            settings=recipe["recipe"],
            curve=read_metrics(run.metrics),
            pictures=[
                ("samples", shown.modality.show(shown.values, shown.given)),
                ("real data that training did not see", beside.modality.show(beside.values, beside.given)),
            ],
            next_steps=_next_steps(run, generated),
            versions={"feller": __version__, "torch": torch.__version__, "python": platform.python_version()},
        ),
    )


def _spread(data: Dataset) -> torch.Tensor:
    """Choose examples to show: all points, or some pictures, sorted by class."""
    if data.values.ndim == 2:
        return torch.arange(min(len(data), 5000))
    index = torch.arange(min(len(data), SHOWN))
    label = data.given.get("label")
    return index if label is None else index[label[index].argsort(stable=True)]


def _next_steps(run: Run, generated: Dataset) -> list[tuple[str, str]]:
    """Say how to go on."""
    steps = [(f"feller sample {run.path} -n 1000 --out samples.npz", "draw samples into one file")]
    for name, classes in generated.modality.conditions.items():
        steps.append((f"feller sample {run.path} -n 64 --given {name}={classes[0]} --out {name}/", "one class alone"))
    return [
        *steps,
        (f"feller evaluate {run.path}", "measure again"),
        (f"feller fit --resume --out {run.path} --minutes 10", "train longer"),
    ]
