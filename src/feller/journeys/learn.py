"""The training of a run: followed, logged, saved, shown, and interrupted."""

import contextlib
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from feller.data.batches import batches, shuffled
from feller.data.modality import Dataset
from feller.description import Description, save_description
from feller.draws import Draws
from feller.errors import UsageError
from feller.journeys.asked import Asked, parts
from feller.journeys.tell import Tell
from feller.model import Model
from feller.networks.architecture import parameters
from feller.objective import Objective
from feller.recipes import Recipe
from feller.record import replace_file, to_data
from feller.run import Run
from feller.train.checkpoint import load_checkpoint, save_checkpoint
from feller.train.engine import Engine
from feller.train.loop import Batches, Learner, check_finite, make_learner, train
from feller.train.metrics import MetricsWriter
from feller.train.optimiser import Training

CHECKPOINT_SECONDS = 60.0
LOG_EVERY = 10
"""Steps."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came; all is saved. Not an error, so nobody catches it by accident."""

    def __init__(self, run: Run) -> None:
        self.run = run
        super().__init__(f"interrupted; all is saved. Go on with: feller fit --resume --out {run.path}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A training that is known to fit together, before anything of it is written."""

    asked: Asked
    recipe: Recipe
    train: Dataset
    held_out: Dataset
    older: Model | None
    """Where the weights start, and what a recipe of two stages learns from."""
    objective: Objective
    description: Description
    learner: Learner


def prepare(asked: Asked, dataset: Dataset, recipe: Recipe, older: Model | None, here: Engine) -> Prepared:
    """Split the data, build the network, and try both on two examples.

    Raises:
        InputError: If the data lack a condition of their modality.
        UsageError: If recipe and data do not fit.
    """
    training_data, held_out = parts(asked, dataset)
    if older is not None:
        older.network.to(here.device).eval()
    objective = recipe.objective if older is None else recipe.objective.taught(older.network)
    description = replace(recipe, objective=objective).describe(training_data)
    network = description.build(Draws(asked.seed))
    if older is not None:
        network.load_state_dict(older.network.state_dict())
    learner, draws = make_learner(network.to(here.device), recipe.train), Draws(asked.seed).named("trial")
    some = training_data.subset(torch.arange(min(len(training_data), 2)))
    two = here.place(batches(some, len(some), draws)(0, slice(None)))
    objective.loss(learner.network, objective.draw(learner.network, two, draws))
    return Prepared(
        asked=asked,
        recipe=recipe,
        train=training_data,
        held_out=held_out,
        older=older,
        objective=objective,
        description=description,
        learner=learner,
    )


def learn(run: Run, ready: Prepared, *, resume: bool, here: Engine, tell: Tell) -> None:
    """Train until the budget is spent, saving on the way.

    Args:
        run: Where all is kept.
        ready: What is trained.
        resume: Go on where the run stopped.
        here: Device and processes.
        tell: Hears how it goes.

    Raises:
        InputError: If the loss or the run is damaged.
        Interrupted: After Ctrl-C, with all saved.
    """
    asked, recipe, learner, draws = ready.asked, ready.recipe, ready.learner, Draws(ready.asked.seed)
    if resume:
        load_checkpoint(run, learner)
        tell.say(_going_on(learner, recipe.train))
    here.wait()  # until all have read what the first will write
    if here.is_first:
        save_description(run, ready.description)
        run.write_record(run.recipe, {"asked": to_data(asked), "recipe": to_data(recipe)})
    for note in asked.notes:
        tell.say(note)
    tell.say(
        f"{asked.data}: {len(ready.train):,} to learn from, {len(ready.held_out):,} kept back; recipe {asked.recipe}, "
        f"size {asked.size}, {parameters(learner.network):,} weights, {_budget(recipe.train)}; writing to {run.path}"
    )
    feed = _feed(ready.train, recipe, ready.older, draws, tell)
    with _interrupts() as interrupted:
        _follow(
            run,
            learner,
            train(learner, ready.objective, feed, recipe.train, draws=draws, engine=here),
            interrupted=lambda: bool(here.agree(float(interrupted.is_set()))),
            preview=lambda: _preview(run, ready.description, learner),
            writes=here.is_first,
            tell=tell,
        )
    if here.agree(learner.share(recipe.train)) < 1:
        raise Interrupted(run)


def _going_on(learner: Learner, training: Training) -> str:
    """Say where a resumed training stands."""
    if learner.share(training) < 1:
        return f"going on after step {learner.step:,}"
    spent = f"{learner.step:,} steps in {learner.seconds / 60:.3g} minutes"
    return (
        f"nothing is left to train: {_budget(training)} count from the start, and this run has done {spent}; ask for"
        " more in all"
    )


def _feed(data: Dataset, recipe: Recipe, older: Model | None, draws: Draws, tell: Tell) -> Batches:
    """Return what gives each step its examples: the data, or pairs that the older model draws."""
    if not recipe.pairs:
        return batches(data, recipe.train.batch, draws)
    if older is None:
        raise UsageError("this recipe draws pairs from an older model: name its run with --start-from")
    tell.task("drawing pairs")
    pairs = older.pairs(recipe.pairs, draws.named("pairs"), tell.progress)
    tell.done()
    return shuffled(pairs, recipe.train.batch, draws)


def _follow(
    run: Run,
    learner: Learner,
    reports: Iterator[Any],
    *,
    interrupted: Callable[[], bool],
    preview: Callable[[], None],
    writes: bool,
    tell: Tell,
) -> None:
    """Log, save and show progress while training goes on."""
    tell.task("training")
    metrics = MetricsWriter(run.metrics, learner.step) if writes else None
    saved, last = time.monotonic(), None
    for report in reports:
        if report.step == 1 or report.step % LOG_EVERY == 0:
            loss = check_finite(report)
            if metrics:
                metrics.add(
                    step=report.step,
                    loss=loss,
                    lr=report.lr,
                    gradient=report.gradient.item(),
                    seconds=round(report.seconds, 3),
                )
            tell.progress(report.share, f"step {report.step:,}, loss {loss:.4f}")
        if writes and (report.step == 1 or time.monotonic() - saved > CHECKPOINT_SECONDS):
            check_finite(report)  # a broken state must not replace a good one
            save_checkpoint(run, learner)
            if report.step > 1:
                preview()
            saved = time.monotonic()
        last = report
        if interrupted():
            break
    if last is not None:
        check_finite(last)
    if writes:  # also where nothing was left to train: a file may have been lost
        save_checkpoint(run, learner)
    if metrics:
        metrics.close()
    tell.done()


def _preview(run: Run, description: Description, learner: Learner) -> None:
    """Write a picture of what the model draws by now, in few calls; training does not notice."""
    network = description.build(Draws(0)).to(next(learner.network.parameters()).device)
    learner.average.copy_to(network)
    draws = Draws(0).named("preview")
    drawn = Model(description, network).sample(16, sampling=replace(description.sampling, calls=16), draws=draws)
    picture = io.BytesIO()
    drawn.modality.show(drawn.values, drawn.given).save(picture, "PNG")
    replace_file(run.preview, picture.getvalue())


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C, or a polite request to end, into a flag; the second Ctrl-C acts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def heard(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _budget(training: Training) -> str:
    number, unit = (f"{training.minutes:g}", "minute") if training.steps is None else (f"{training.steps:,}", "step")
    return f"{number} {unit}{'' if number == '1' else 's'}"
