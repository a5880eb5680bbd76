"""The training of a run: followed, logged, saved, shown, and interrupted."""

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import Tensor

from feller.app.reporter import Tell
from feller.app.workflows.fitting.training_job import Prepared
from feller.core.interrupts import endings, interrupts
from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.core.serialization import replace_file
from feller.models.model import Model
from feller.models.spec import Description, save_description
from feller.training.checkpoint import load_checkpoint, save_checkpoint
from feller.training.engine import Engine
from feller.training.loop import Learner, Report, train
from feller.training.metrics_log import MetricsWriter
from feller.training.optimizer import Training
from feller.training.parallelize import dress

CHECKPOINT_SECONDS = 60.0
"""Between two checkpoints, at most."""
SOON = 5.0
"""Seconds from the first checkpoint to the next, which double from then on, so that young weights are soon gone."""
LOG_EVERY = 10
"""Steps."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came; what is saved is told. Not an error, so nobody catches it by accident."""

    def __init__(self, again: str, saved: str = "all is saved. Go on with") -> None:
        super().__init__(f"interrupted; {saved}: {again}")


@contextlib.contextmanager
def reporting(learned: str, again: str) -> Iterator[None]:
    """Let Ctrl-C, or a polite request to end, stop a report; what was learned stays.

    Args:
        learned: What is saved, such as the training.
        again: Command that makes the report.

    Raises:
        Interrupted: Then; says so.
    """
    try:
        with endings():
            yield
    except KeyboardInterrupt as stopped:
        raise Interrupted(again, f"{learned} is saved. Its report is made by") from stopped


def learn(run: Run, ready: Prepared, *, resume: bool, here: Engine, tell: Tell) -> None:
    """Train until the budget is spent, saving on the way.

    Args:
        run: Where all is kept.
        ready: What is trained.
        resume: Go on where the run stopped.
        here: Device and processes.
        tell: Hears how it goes.

    Raises:
        InputError: If the loss or the run is damaged, or all is paid for and nothing was saved.
        Interrupted: After Ctrl-C, with all saved.
    """
    learner, training = ready.learner, ready.training
    spent, saved = ready.spent(), run.state.is_file() or run.weights.is_file()
    if resume and saved:
        elsewhere = load_checkpoint(run, learner)
        tell.say(_going_on(learner, training, spent=spent))
        if elsewhere:
            tell.say(elsewhere)
    elif spent:
        raise InputError(
            f"all steps of {run.path} are paid for, and none was saved before it was killed; begin anew with"
            " --overwrite, which spends anew and says what this one spent"
        )
    here.wait()  # until all have read what the first will write
    ready.open()
    if here.is_first:
        save_description(run, ready.description)
        run.write_record(run.recipe, ready.record)
    for note in ready.notes:
        tell.say(note)
    tell.say(f"{ready.summary}, {budget(training)}; writing to {run.path}")
    try:
        ready = ready.bound(ready, tell)
    except KeyboardInterrupt as stopped:  # at once: what it has made is kept
        raise Interrupted(ready.again) from stopped
    with interrupts() as interrupted:
        feed = ready.feed(tell)
        dress(learner, training, here)
        draws = Draws(ready.seed)
        steps = train(learner, ready.objective, feed, training, draws=draws, engine=here, gradient=ready.gradient)
        _follow(
            run,
            ready,
            iter(()) if spent else steps,
            interrupted=interrupted.is_set,
            here=here,
            tell=tell,
        )
    ready.close()
    if here.agree(learner.share(training)) < 1 and not ready.spent():
        raise Interrupted(ready.again)


def _going_on(learner: Learner, training: Training, *, spent: bool) -> str:
    """Say where a resumed training stands."""
    if spent:
        return f"nothing is left to train: all steps are paid for, and the weights took {learner.step:,} of them"
    if learner.share(training) < 1:
        return f"going on after step {learner.step:,}"
    done = f"{learner.step:,} steps in {learner.seconds / 60:.3g} minutes"
    return (
        f"nothing is left to train: {budget(training)} count from the start, and this run has done {done}; ask for"
        " more in all"
    )


def _follow(
    run: Run,
    ready: Prepared,
    reports: Iterator[Report],
    *,
    interrupted: Callable[[], bool],
    here: Engine,
    tell: Tell,
) -> None:
    """Log, save and show progress while training goes on."""
    tell.task("training")
    learner, writes = ready.learner, here.is_first
    saves = writes or learner.sharded
    """Whether this process takes part in saving: of a sharded learner all do, when the first one says so."""

    def all_agree(wanted: bool) -> bool:
        return bool(here.agree(float(wanted))) if learner.sharded else wanted

    metrics = MetricsWriter(run.metrics, learner.step) if writes else None
    saved = seen = time.monotonic()
    pause = CHECKPOINT_SECONDS
    last, logged = None, False

    def log(report: Report) -> None:
        loss = ready.check(report)
        notes = {name: value.item() for name, value in report.notes.items()} if ready.tells_loss else {}
        if metrics:
            metrics.add(
                step=report.step,
                **({"loss": loss} if ready.tells_loss else {}),
                lr=report.lr,
                gradient=report.gradient.item(),
                **({"seconds": round(report.seconds, 3)} if ready.tells_loss else {}),
                **notes,
            )
        known = {"loss": loss, **notes} if ready.tells_loss else notes
        told = "".join(f", {name} {value:.4g}" for name, value in known.items())
        tell.progress(report.share, f"step {report.step:,}{told}")

    for report in reports:
        logged = report.step == 1 or report.step % LOG_EVERY == 0
        if logged:
            log(report)
        due = time.monotonic() - saved > min(pause, CHECKPOINT_SECONDS) or (ready.careful and logged)
        if saves and all_agree(report.step == 1 or due):
            ready.check(report)  # a broken state must not replace a good one
            _save(run, ready, writes=writes)
            saved, pause = time.monotonic(), SOON if report.step == 1 else 2 * pause
        if saves and all_agree(time.monotonic() - seen > CHECKPOINT_SECONDS):
            averaged = learner.averaged()
            if writes:
                _preview(run, ready.description, averaged, here)
            seen = time.monotonic()
        last = report
        if here.agree(float(interrupted())) or ready.spent():
            break
    if last is not None and not logged:
        log(last)
    if saves:  # also where nothing was left to train: a file may have been lost
        _save(run, ready, writes=writes)
    if metrics:
        metrics.close()
    tell.done()


def _save(run: Run, ready: Prepared, *, writes: bool) -> None:
    """Write the learner; of a private one its time in whole minutes, which tells of no batch how large it was."""
    kept = ready.learner
    if not ready.tells_loss:
        kept = replace(kept, seconds=60.0 * math.ceil(kept.seconds / 60))  # a copy: the clock itself goes on
    save_checkpoint(run, kept, writes=writes)


def _preview(run: Run, description: Description, averaged: dict[str, Tensor], here: Engine) -> None:
    """Write a picture of what the model draws by now, in few calls; training does not notice. Some draw nothing."""
    if description.path.instead or description.modality.labels:
        return
    network = description.build(Draws(0)).to(here.device)
    network.load_state_dict(averaged)
    draws = Draws(0).named("preview")
    drawn = Model(description, network).sample(16, sampling=replace(description.sampling, calls=16), draws=draws)
    picture = io.BytesIO()
    drawn.modality.show(drawn.values, drawn.given).save(picture, "PNG")
    replace_file(run.preview, picture.getvalue())


def budget(training: Training) -> str:
    """Say how long a training is to be."""
    number, unit = (f"{training.minutes:g}", "minute") if training.steps is None else (f"{training.steps:,}", "step")
    return f"{number} {unit}{'' if number == '1' else 's'}"
