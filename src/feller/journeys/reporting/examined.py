"""What a network that draws none is asked about, and the page of what it told."""

import datetime
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from feller import __version__
from feller.data.modality import Dataset
from feller.errors import UsageError
from feller.evaluate.comparison import HELD_OUT, TRAINED
from feller.journeys.asked import Asked, asked_of, parts, read_again
from feller.journeys.first_sketch import first_sketch
from feller.journeys.fitting.at_once import is_found
from feller.journeys.onward import again, evaluating, fitting
from feller.journeys.private import promise
from feller.journeys.private.promise import promised, timing
from feller.journeys.private.purse import ledger_of
from feller.journeys.private.spent import earlier_lines
from feller.journeys.reporting.judged import stem
from feller.journeys.tell import Tell
from feller.journeys.unfinished import is_spent, stopped
from feller.model import Model
from feller.record import from_data
from feller.report.page import Findings, write_report
from feller.run import Run
from feller.train.checkpoint import read_counters
from feller.train.engine import engine
from feller.train.metrics import read_metrics
from feller.train.optimiser import Training


@dataclass(frozen=True, eq=False)
class Examined:
    """A run and the examples that it is asked about."""

    run: Run
    model: Model
    asked: Asked
    whole: Dataset
    """All that the fit read."""
    real: Dataset
    """What it is asked about: what the user named, or what was kept back, or, where nothing was, the training data."""
    data: str | None
    """What the user named."""
    seen: bool
    """Whether it was trained on them."""

    @property
    def which(self) -> str:
        """Say where the examples come from, as the end of a sentence."""
        if self.data is not None:
            return f"in {self.data}."
        if self.seen:
            return "that it was trained on, since none are held out; of others it knows less."
        return "held out."


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What was found, for the page."""

    title: str
    judged: str
    numbers: Mapping[str, Any]
    explanations: Mapping[str, str]
    pictures: Sequence[tuple[str, Image.Image]]
    heading: str
    """Of the pictures."""
    sounds: Sequence[tuple[str, bytes]] = ()
    """Captions and .wav files, to listen to."""
    said: str = ""
    """The sentence on top; by default that which the numbers give."""
    next_steps: Sequence[tuple[str, str]] = ()
    """What the run is good for, beside measuring again and going on."""


def examined(
    run: Run, model: Model, *, data: str | None, samples: str | None, read_other: Callable[[str, Asked], Dataset]
) -> Examined:
    """Read what a run is to be asked about.

    Args:
        run: Holds the model.
        model: What it holds.
        data: Data to judge it by; by default those that the fit kept back.
        samples: There are none; a name is refused.
        read_other: Reads data that are named.

    Raises:
        InputError: If run or data are not what they must be.
        UsageError: If samples are named.
    """
    if samples is not None:
        raise UsageError(f"there are no samples to judge, name data with --data: {model.description.path.instead}")
    asked, modality = asked_of(run), model.description.modality
    whole = read_again(asked, modality)
    train, held_out = parts(asked, whole.seen_as(modality))
    if data is not None:
        held_out = read_other(data, asked)
    real = held_out if len(held_out) else train
    return Examined(run, model, asked, whole, real, data, real is train)


def report(it: Examined, told: Told, tell: Tell) -> dict[str, Any]:
    """Write the page, and return its numbers, and where it is under `report`."""
    run, asked = it.run, it.asked
    ledger, counters = ledger_of(run), read_counters(run)
    earlier = earlier_lines(run, asked.data, it.whole) if ledger else ()
    numbers = {
        **told.numbers,
        "compared_with": it.data or (TRAINED if it.seen else HELD_OUT),
        **(promised(ledger) if ledger else {}),
        **timing(counters, ledger),
    }
    tell.say(told.judged)
    name = "report" if it.data is None else f"report-{stem(it.data)}"
    if engine().is_first:
        recipe = run.read_record(run.recipe)["recipe"]
        training, at_once = from_data(Training, recipe["train"]), is_found(counters)
        spent = is_spent(run, asked)
        done = at_once or spent or training.share(counters["step"], counters["seconds"]) >= 1
        measured = evaluating(run, asked, {"--data": it.data})
        sketch = first_sketch(run, asked, it.whole, counters["step"], counters["seconds"])
        sketch = sketch if done and not at_once else ""
        page = Findings(
            title=told.title,
            command=fitting(run, asked, training) if it.data is None else measured,
            made=datetime.datetime.now(datetime.UTC).date().isoformat(),
            unfinished=stopped(run, asked, training, counters),
            sketch=sketch,
            said=told.said,
            judged=told.judged,
            numbers=numbers,
            explanations={**promise.EXPLAIN, **told.explanations},
            promise=promise.sentence(ledger, asked, it.model.description.modality) if ledger else "",
            spent=(*ledger.lines(), *earlier) if ledger else (),
            beware=promise.beware(ledger),
            notes=asked.notes,
            settings=recipe,
            curve=None if at_once else read_metrics(run.metrics),
            pictures=told.pictures,
            seen=told.heading,
            sounds=told.sounds,
            next_steps=[
                *told.next_steps,
                (measured, "measure again"),
                *([] if at_once or spent else [again(run, asked, None, training if done else None, sketch)]),
            ],
            versions={"feller": __version__, "torch": torch.__version__, "python": platform.python_version()},
        )
        write_report(run.path, page, name)
    return {**numbers, "report": f"{run.path / name}.html"}
