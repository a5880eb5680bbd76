"""What a network that draws none is asked about, and the page of what it told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from feller.app.reporter import Tell
from feller.app.workflows.next_steps import evaluating, fitting
from feller.app.workflows.private import guarantee_text
from feller.app.workflows.reporting.comparison import stem
from feller.app.workflows.run_config import Asked, asked_of, parts, read_again
from feller.app.workflows.run_status import first_sketch
from feller.app.workflows.standing import Standing, standing
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.evaluation.comparison import HELD_OUT, TRAINED
from feller.evaluation.report.page import Findings, write_report
from feller.models.model import Model
from feller.training.engine import engine


@dataclass(frozen=True, eq=False)
class Examined:
    """A run and the examples that it is asked about."""

    model: Model
    stands: Standing
    """How the run stands: what is damaged is told before anything is asked of the model."""
    whole: Dataset
    """All that the fit read."""
    real: Dataset
    """What it is asked about: what the user named, or what was kept back, or, where nothing was, the training data."""
    data: str | None
    """What the user named."""
    seen: bool
    """Whether it was trained on them."""

    @property
    def run(self) -> Run:
        """Holds the model."""
        return self.stands.run

    @property
    def asked(self) -> Asked:
        """What was asked of the run."""
        return self.stands.asked

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
    stands = standing(run, asked, modality, whole)
    train, held_out = parts(asked, whole.seen_as(modality))
    if data is not None:
        held_out = read_other(data, asked)
    real = held_out if len(held_out) else train
    return Examined(model, stands, whole, real, data, real is train)


def report(it: Examined, told: Told, tell: Tell) -> dict[str, Any]:
    """Write the page, and return its numbers, and where it is under `report`."""
    run, asked, stands = it.run, it.asked, it.stands
    numbers = {**told.numbers, "compared_with": it.data or (TRAINED if it.seen else HELD_OUT), **stands.numbers}
    tell.say(told.judged)
    name = "report" if it.data is None else f"report-{stem(it.data)}"
    if engine().is_first:
        measured = evaluating(run, asked, {"--data": it.data})
        short = stands.is_done and not stands.at_once
        counters = stands.counters
        sketch = first_sketch(run, asked, it.whole, counters["step"], counters["seconds"]) if short else ""
        page = Findings(
            title=told.title,
            command=fitting(run, asked, stands.training) if it.data is None else measured,
            unfinished=stands.unfinished,
            sketch=sketch,
            said=told.said,
            judged=told.judged,
            numbers=numbers,
            explanations={**guarantee_text.EXPLAIN, **told.explanations},
            promise=stands.promise,
            spent=stands.spent,
            beware=stands.beware,
            notes=asked.notes,
            settings=stands.recipe,
            curve=stands.curve,
            pictures=told.pictures,
            seen=told.heading,
            sounds=told.sounds,
            next_steps=[*told.next_steps, (measured, "measure again"), *stands.again(sketch=sketch)],
        )
        write_report(run.path, page, name)
    return {**numbers, "report": f"{run.path / name}.html"}
