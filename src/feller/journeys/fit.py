"""From data to a run folder."""

import contextlib
import io
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from feller.code import fingerprint as code_fingerprint
from feller.code import load_function
from feller.data.batches import batches
from feller.data.modality import Dataset
from feller.data.read import read
from feller.draws import Draws
from feller.errors import InputError, UsageError
from feller.journeys.asked import Asked, asked_of, fingerprint, parts, read_again
from feller.journeys.evaluate import evaluate
from feller.journeys.tell import SILENT, Tell
from feller.model import Description, Model, frequencies, save_description
from feller.networks.architecture import parameters
from feller.objective import Matching
from feller.recipes import Recipe, find_recipe
from feller.record import from_data, replace_file, to_data
from feller.run import Run, new_run
from feller.train.checkpoint import load_checkpoint, save_checkpoint
from feller.train.engine import Engine, engine
from feller.train.loop import Learner, check_finite, make_learner, train
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


def fit(
    data: str | None = None,
    *,
    recipe: str | None = None,
    out: str | None = None,
    size: str | None = None,
    seed: int = 0,
    longest: int | None = None,
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    resume: bool = False,
    overwrite: bool = False,
    tell: Tell = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Fit a model to data and write a run folder.

    Args:
        data: A file, a folder, or `example:NAME`; a resumed run knows its own.
        recipe: A recipe's name, `auto` (the default), or `file.py:function`.
        out: The run folder; by default a new one under `runs`, or the newest if resumed.
        size: tiny, small (the default) or base.
        seed: Of all randomness.
        longest: Longer side to bring pictures to; by default at most 64.
        change: Last word on the recipe, such as other steps or rates.
        resume: Go on with the run in `out`.
        overwrite: Replace the run in `out`.
        tell: Hears how it goes.

    Returns:
        The run, and the numbers of its report.

    Raises:
        InputError: If data, run or disk are not what they must be.
        UsageError: If an argument is wrong.
        Interrupted: After Ctrl-C, with all saved.
    """
    here = engine()
    # The first process chooses the folder: what it makes there must not look like an older run to the others.
    chosen_path = new_run(out, data or "", resume=resume, overwrite=overwrite).path if here.is_first else ""
    run = Run(pathlib.Path(here.share(str(chosen_path))))
    if resume:
        asked, dataset, chosen = _continue(run, data, recipe, change)
    else:
        if not data:
            raise UsageError("expected DATA: a file, a folder, or example:NAME; `feller data` lists the examples")
        dataset = read(data, size=longest)
        name, chosen = find_recipe(recipe or "auto", dataset, size or "small")
        chosen = change(chosen)
        code = code_fingerprint(pathlib.Path(name.rpartition(":")[0])) if ":" in name else ""
        asked = Asked(
            data=data,
            recipe=name,
            size=size or "small",
            seed=seed,
            longest=longest,
            held_out=chosen.held_out,
            fingerprint=fingerprint(dataset),
            code=code,
            notes=dataset.notes,
        )
    if chosen.train.steps is None and chosen.train.minutes is None:
        raise UsageError("expected a budget: --steps or --minutes")
    with run.claim(resume=resume, overwrite=overwrite) if here.is_first else contextlib.nullcontext():
        here.wait()
        _train(run, asked, dataset, chosen, resume=resume, here=here, tell=tell)
        here.wait()  # until the first process has written what all will read
        numbers = evaluate(run, tell=tell)
    return run, numbers


def _continue(
    run: Run, data: str | None, recipe: str | None, change: Callable[[Recipe], Recipe]
) -> tuple[Asked, Dataset, Recipe]:
    """Return what a run was asked for, with its data and recipe."""
    asked = asked_of(run)
    if data is not None and data != asked.data:
        raise UsageError(f"{run.path} was fitted to {asked.data}, not {data}; leave out --resume to start a new run")
    dataset = read_again(asked)
    if asked.code:
        _load_code(asked, recipe)
    before = from_data(Recipe, run.read_record(run.recipe)["recipe"])
    after = change(before)
    if replace(after, train=before.train, sampling=before.sampling) != before:
        raise UsageError("a resumed run keeps its recipe, but for --train.* and --sampling.*; start a new run for more")
    return asked, dataset, after


def _load_code(asked: Asked, recipe: str | None) -> None:
    """Load the user's own recipe, which must be what it was."""
    if recipe is None:
        raise UsageError(f"this run's recipe is code of yours: resume it with --recipe {asked.recipe}")
    if code_fingerprint(pathlib.Path(recipe.rpartition(":")[0])) != asked.code:
        raise InputError(f"{recipe} is not what it was when this run began; bring it back, or start a new run")
    load_function(recipe)


def _train(run: Run, asked: Asked, dataset: Dataset, recipe: Recipe, *, resume: bool, here: Engine, tell: Tell) -> None:
    """Train until the budget is spent, saving on the way."""
    training_data, held_out = parts(asked, dataset)
    description = Description(
        dataset.modality,
        dataset.modality.space(),
        recipe.path,
        recipe.architecture,
        frequencies(training_data),
        recipe.sampling,
        recipe.drop,
    )
    draws = Draws(asked.seed)
    learner = make_learner(description.build(draws).to(here.device), recipe.train)
    if resume:
        load_checkpoint(run, learner)
        tell.say(f"going on after step {learner.step:,}")
    here.wait()  # until all have read what the first will write
    if here.is_first:
        save_description(run, description)
        run.write_record(run.recipe, {"asked": to_data(asked), "recipe": to_data(recipe)})
    for note in dataset.notes:
        tell.say(note)
    tell.say(
        f"{asked.data}: {len(training_data):,} to learn from, {len(held_out):,} kept back; recipe {asked.recipe}, "
        f"size {asked.size}, {parameters(learner.network):,} weights, {_budget(recipe.train)}; writing to {run.path}"
    )
    objective = Matching(
        recipe.path, description.space, recipe.loss, recipe.law, coupling=recipe.coupling, drop=recipe.drop
    )
    feed = batches(training_data, recipe.train.batch, draws)
    with _interrupts() as interrupted:
        _follow(
            run,
            learner,
            train(learner, objective, feed, recipe.train, draws=draws, engine=here),
            interrupted=lambda: bool(here.agree(float(interrupted.is_set()))),
            preview=lambda: _preview(run, description, learner),
            writes=here.is_first,
            tell=tell,
        )
    if here.agree(learner.share(recipe.train)) < 1:
        raise Interrupted(run)


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
    if writes and last is not None:
        check_finite(last)
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
    if training.steps is not None:
        return f"{training.steps:,} steps"
    return f"{training.minutes:g} minutes"


def with_budget(recipe: Recipe, *, steps: int | None = None, minutes: float | None = None) -> Recipe:
    """Return the recipe with another budget."""
    if steps is not None:
        return replace(recipe, train=replace(recipe.train, steps=steps, minutes=None))
    if minutes is not None:
        return replace(recipe, train=replace(recipe.train, steps=None, minutes=minutes))
    return recipe
