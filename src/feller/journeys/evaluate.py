"""From samples to numbers, and to a page to look at."""

import datetime
import pathlib
import platform
import shlex
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from feller import __version__
from feller.data.modality import Dataset
from feller.data.read import read
from feller.data.text.modality import Text
from feller.draws import Draws
from feller.evaluate.flow import flow_quality
from feller.evaluate.judge import Judge, load_judge, save_judge
from feller.evaluate.quality import EXPLAIN, quality
from feller.journeys.asked import asked_of, example_of, parts, read_again
from feller.journeys.tell import SILENT, Tell
from feller.model import load_model
from feller.record import from_data
from feller.report.page import Findings, write_report
from feller.run import Run
from feller.train.checkpoint import read_counters
from feller.train.engine import engine
from feller.train.metrics import read_metrics
from feller.train.optimiser import Training
from feller.tree import leaves

MOST_SAMPLES, MOST_LARGE, MOST_TEXTS = 1000, 300, 100
"""Drawn for the numbers, of states up to 1,024 numbers, of larger ones, and of texts; not more than the training set
holds, so that the floor is measured at the same size."""
INSIDE = "Share of the samples that lie where the data can be; 1 is best. Only for sets that know where that is."
MOST_SHOWN = {False: 100, True: 5000}
"""Pictures, and points."""


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
    training_data, held_out = parts(asked, read_again(asked, modality).seen_as(modality))
    if data is not None:
        held_out = read(data, size=asked.longest, like=modality)
    draws = Draws(seed).named("evaluate")
    if samples is not None:
        values, given = modality.read_back(pathlib.Path(samples))
        generated = Dataset(values, given, modality)
    else:
        tell.task("sampling")
        most = _most(training_data)
        n = min(most, max(len(training_data), 2))
        generated = model.sample(n, draws=draws, tell=tell.progress)
        tell.done()
    tell.task("judging")
    found = quality(generated, training_data, held_out, draws, engine(), judge=_judge(run))
    tell.done()
    trained = read_counters(run)
    numbers: dict[str, Any] = dict(found.numbers)
    if samples is None:
        numbers |= flow_quality(model, held_out, draws)
    example = example_of(asked)
    if example and example.inside:
        numbers["inside"] = example.inside(generated.values).double().mean().item()
    numbers |= {"steps": trained["step"], "seconds": trained["seconds"]}
    if engine().is_first:
        if found.judge is not None:
            save_judge(run.judge, found.judge)
        _report(run, numbers, found.notes, generated, held_out if len(held_out) else training_data)
    return numbers


def _most(data: Dataset) -> int:
    """Return how many examples are drawn, at most."""
    if isinstance(data.modality, Text):
        return MOST_TEXTS
    numbers = sum(leaf[0].numel() for leaf in leaves(data.values))
    return MOST_SAMPLES if numbers <= 1024 else MOST_LARGE


def _judge(run: Run) -> Judge | None:
    """Return the judge of an earlier evaluation."""
    return load_judge(run.judge) if run.judge.is_file() else None


def _report(run: Run, numbers: dict[str, Any], notes: tuple[str, ...], generated: Dataset, real: Dataset) -> None:
    """Write the page and its numbers."""
    recipe, counters = run.read_record(run.recipe), read_counters(run)
    asked, training = recipe["asked"], recipe["recipe"]["train"]
    number = min(
        len(generated), len(real), MOST_SHOWN[isinstance(generated.values, Tensor) and generated.values.ndim == 2]
    )
    spent = from_data(Training, training).share(counters["step"], counters["seconds"])
    unfinished = f"Training stopped after {counters['step']:,} steps; go on with the command below."
    write_report(
        run.path,
        Findings(
            title=f"{asked['data']}, fitted with the recipe {asked['recipe']}",
            command=_made_by(run, asked, training),
            made=datetime.datetime.now(datetime.UTC).date().isoformat(),
            unfinished=unfinished if spent < 1 else "",
            numbers=numbers,
            explanations={**EXPLAIN, "inside": INSIDE},
            notes=(*asked["notes"], *notes),
            settings=recipe["recipe"],
            curve=read_metrics(run.metrics),
            pictures=[
                ("Samples", _picture(generated, number)),
                ("Real data that training did not see", _picture(real, number)),
            ],
            next_steps=_next_steps(run, generated),
            versions={"feller": __version__, "torch": torch.__version__, "python": platform.python_version()},
        ),
    )


def _picture(data: Dataset, number: int) -> Image.Image:
    """Show examples from all over the data, sorted by class: neighbouring windows of a text overlap."""
    some = data.subset(torch.arange(number) * len(data) // max(number, 1))
    if "label" in some.given:
        some = some.subset(some.given["label"].argsort(stable=True))
    return some.modality.show(some.values, some.given)


def _command(*words: object) -> str:
    """Return a command line that can be copied."""
    return shlex.join(["feller", *map(str, words)])


def _made_by(run: Run, asked: dict[str, Any], training: dict[str, Any]) -> str:
    """Return the command that makes such a run; deeper fields stand in the settings."""
    budget = ("--steps", training["steps"]) if training["steps"] else ("--minutes", training["minutes"])
    words = ("--recipe", asked["recipe"], "--size", asked["size"], *budget, "--seed", asked["seed"], "--out", run.path)
    return _command("fit", asked["data"], *words)


def _next_steps(run: Run, generated: Dataset) -> list[tuple[str, str]]:
    """Say how to go on."""
    asked = asked_of(run)
    code = ("--code", asked.recipe.rpartition(":")[0]) if asked.code else ()
    steps = [(_command("sample", run.path, *code, "-n", 1000, "--out", "samples.npz"), "draw samples into one file")]
    own = ("--recipe", asked.recipe) if asked.code else ()
    for name, classes in generated.modality.conditions.items():
        given = f"{name}={classes[0]}"
        steps.append(
            (_command("sample", run.path, *code, "-n", 64, "--given", given, "--out", "one-class"), "one class alone")
        )
    return [
        *steps,
        (_command("evaluate", run.path, *code), "measure again"),
        (_command("fit", "--resume", *own, "--out", run.path, "--minutes", 10), "train longer, ten minutes in all"),
    ]
