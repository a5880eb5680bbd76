"""From a regressor's run to how right it is, and to a page to look at."""

import datetime
import platform
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from feller import __version__
from feller.data.aim import read_aimed
from feller.data.modality import Dataset
from feller.data.target import Target
from feller.errors import UsageError
from feller.evaluate.comparison import HELD_OUT, TRAINED
from feller.evaluate.estimates import Oracle, errors, explained
from feller.journeys.asked import asked_of, parts, read_again
from feller.journeys.judged import stem
from feller.journeys.onward import again, evaluating, fitting, rewarding
from feller.journeys.private import promise
from feller.journeys.private.promise import promised
from feller.journeys.private.purse import ledger_of
from feller.journeys.private.spent import earlier_lines
from feller.journeys.tell import Tell
from feller.model import Model
from feller.networks.linear import Linear
from feller.record import from_data
from feller.report.against import classes_against, numbers_against
from feller.report.page import Findings, write_report
from feller.run import Run
from feller.train.checkpoint import read_counters
from feller.train.engine import engine
from feller.train.metrics import read_metrics
from feller.train.optimiser import Training


def examine(run: Run, model: Model, *, data: str | None, samples: str | None, tell: Tell) -> dict[str, Any]:
    """Compare what a regressor tells of data that training did not see with the truth, and write the report.

    Args:
        run: Holds the model.
        model: What it holds.
        data: Data to judge it by; by default those that the fit kept back.
        samples: There are none; a name is refused.
        tell: Hears how it goes.

    Raises:
        InputError: If run or data are not what they must be.
        UsageError: If samples are named.
    """
    if samples is not None:
        raise UsageError("this run tells of data and draws none, so it judges no samples; name data with --data")
    asked, modality = asked_of(run), model.description.modality
    whole = read_again(asked, modality)
    train, held_out = parts(asked, whole.seen_as(modality))
    oracle = Oracle(model, modality)
    if data is not None:
        held_out = read_aimed(data, modality, oracle.target, asked.longest)
    real = held_out if len(held_out) else train
    tell.task("asking about data")
    told, truth = oracle.tell(real).cpu(), real.wanted(oracle.target)
    numbers: dict[str, Any] = errors(oracle.target, told, truth)
    seen = real is train
    numbers["compared_with"] = data or (TRAINED if seen else HELD_OUT)
    ledger = ledger_of(run)
    earlier = earlier_lines(run, asked.data, whole) if ledger else ()
    numbers |= promised(ledger) if ledger else {}
    numbers |= {"steps": read_counters(run)["step"], "seconds": read_counters(run)["seconds"]}
    tell.done()
    judged = f"Judged: what the network tells of {len(real):,} examples {_which(data, seen=seen)}"
    tell.say(judged)
    name = "report" if data is None else f"report-{stem(data)}"
    if engine().is_first:
        page = _findings(run, model, judged, numbers, told, real, data)
        if ledger:
            said, spent = promise.sentence(ledger, asked, modality), (*ledger.lines(), *earlier)
            page = replace(page, promise=said, spent=spent, beware=promise.OWNER)
        write_report(run.path, page, name)
    return {**numbers, "report": f"{run.path / name}.html"}


def _which(data: str | None, *, seen: bool) -> str:
    """Say where examples come from."""
    if data is not None:
        return f"in {data}."
    return "that it was trained on, since none are held out; of others it knows less." if seen else "held out."


def _findings(
    run: Run, model: Model, judged: str, numbers: dict[str, Any], told: Tensor, real: Dataset, data: str | None
) -> Findings:
    """Put together what the page shows."""
    target, at_once = (
        Oracle(model, model.description.modality).target,
        isinstance(model.description.architecture, Linear),
    )
    asked, recipe = asked_of(run), run.read_record(run.recipe)["recipe"]
    training, counters = from_data(Training, recipe["train"]), read_counters(run)
    title = f"{', '.join(target.names)} of {asked.data}, told by the recipe {asked.recipe}"
    done = at_once or training.share(counters["step"], counters["seconds"]) >= 1
    measured = evaluating(run, asked, {"--data": data})
    return Findings(
        title=title if data is None else f"{title}, asked about {data}",
        command=fitting(run, asked, training) if data is None else measured,
        made=datetime.datetime.now(datetime.UTC).date().isoformat(),
        unfinished="" if done else f"Training stopped after {counters['step']:,} steps; go on with the command below.",
        judged=judged,
        numbers=numbers,
        explanations={**promise.EXPLAIN, **explained(target)},
        notes=asked.notes,
        settings=recipe,
        curve=None if at_once else read_metrics(run.metrics),
        pictures=[("Told against true", _picture(target, told, real.wanted(target)))],
        seen="Answers",
        next_steps=[
            *rewarding(run, target),
            (measured, "measure again"),
            *([] if at_once else [again(run, asked, None)]),
        ],
        versions={"feller": __version__, "torch": torch.__version__, "python": platform.python_version()},
    )


def _picture(target: Target, told: Tensor, truth: Tensor) -> Image.Image:
    if target.classes:
        return classes_against(told.argmax(1).numpy(), truth[:, 0].long().numpy(), target.classes)
    return numbers_against(told.numpy(), truth.numpy(), target.names)
