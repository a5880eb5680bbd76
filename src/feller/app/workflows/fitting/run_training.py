"""The training of a run: its job and inputs; restored, recorded, followed, and interrupted."""

import contextlib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from feller.app.reporter import Reporter
from feller.core.errors import InputError
from feller.core.gradient import Gradient
from feller.core.interrupts import sigterm_as_interrupt
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.serialization import replace_file, to_dict
from feller.data.modality import Dataset
from feller.data.tables.modality import GUESSED_NOTE
from feller.models.model import Model
from feller.models.spec import ModelSpec, save_spec
from feller.training import callbacks
from feller.training.callbacks import CheckpointSaver, make_loggers
from feller.training.checkpoint import load_checkpoint
from feller.training.engine import Engine
from feller.training.loop import BatchFn, StepMetrics, TrainState
from feller.training.objective import Objective
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import parallelize
from feller.training.trainer import Callback, StepMonitor, Trainer


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob:
    """A training that is known to fit together, before anything of it is written."""

    record: dict[str, Any]
    """What recipe.json will hold."""
    summary: str
    """What is trained on what, for people."""
    notes: tuple[str, ...]
    """What was converted or chosen, for people."""
    config: TrainConfig
    objective: Objective
    description: ModelSpec
    state: TrainState
    resume_command: str
    """Command that goes on."""
    data: Dataset | None = None
    """What is learned from; None where the model itself draws it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingInputs:
    """What the steps of one sitting are made of."""

    batches: BatchFn
    rng: Rng
    gradient: Gradient | None = None
    """How losses become gradients; the mean by default."""
    callbacks: tuple[Callback, ...] = ()
    monitor: StepMonitor = field(default_factory=StepMonitor)
    """Which numbers of a step may be told, and what must not be saved."""
    clock_resolution: float = 0.0
    """Seconds to whose multiples the time of training is rounded up in what is written; 0 writes it as it is."""
    checkpoint_at_each_log: bool = False
    """Save after every logged step, so that a training that fails leaves the last good weights."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came; what is saved is told. Not an error, so nobody catches it by accident."""

    def __init__(self, command: str, saved: str = "all is saved. Go on with") -> None:
        super().__init__(f"interrupted; {saved}: {command}")


@contextlib.contextmanager
def interruptible(command: str, saved: str = "all is saved. Go on with") -> Iterator[None]:
    """Let Ctrl-C, or a polite request to end, stop what is inside at once; what was made before stays.

    Args:
        command: Command that goes on.
        saved: What is there, for people.
    """
    try:
        with sigterm_as_interrupt():
            yield
    except KeyboardInterrupt as stopped:
        raise Interrupted(command, saved) from stopped


def interruptible_report(subject: str, command: str) -> contextlib.AbstractContextManager[None]:
    """Return the same for a report of what was learned, such as the training, which is saved."""
    return interruptible(command, f"{subject} is saved. Its report is made by")


def restore_state(run: Run, job: TrainingJob, *, resume: bool, exhausted: bool, reporter: Reporter) -> None:
    """Bring the state of a training to where its run stopped.

    Args:
        run: Where all is kept.
        job: What is trained.
        resume: Go on where the run stopped; else it begins.
        exhausted: Whether no step may be taken any more.
        reporter: Hears where the training stands.

    Raises:
        InputError: If the run is damaged, or all steps are paid for and none was saved.
    """
    if resume and (run.state.is_file() or run.weights.is_file()):
        elsewhere = load_checkpoint(run, job.state)
        reporter.log(_resume_text(job.state, job.config, exhausted=exhausted))
        if elsewhere:
            reporter.log(elsewhere)
    elif exhausted:
        raise InputError(
            f"all steps of {run.path} are paid for, and none was saved before it was killed",
            remedy="Begin anew with --overwrite, which spends anew and says what this one spent",
        )


def record_job(run: Run, job: TrainingJob, engine: Engine, reporter: Reporter) -> None:
    """Write what is trained and how, and say so."""
    if engine.is_main_process:
        save_spec(run, job.description)
        run.write_record(run.recipe, job.record)
    for note in job.notes:
        (reporter.log if note == GUESSED_NOTE else reporter.note)(note)
    reporter.log(f"{job.summary}, {budget_text(job.config)}; writing to {run.path}")


def run_training(run: Run, job: TrainingJob, inputs: TrainingInputs, engine: Engine, reporter: Reporter) -> None:
    """Train until the budget is spent, saving on the way.

    Args:
        run: Where all is kept.
        job: What is trained; its state as the run left it.
        inputs: What the steps are made of.
        engine: Device and processes.
        reporter: Hears how it goes.

    Raises:
        InputError: If the loss stops being finite.
        Interrupted: After Ctrl-C, with all saved.
    """
    state, config = job.state, job.config
    parallelize(state, config, engine)
    hears: list[Callback] = [*inputs.callbacks]
    if engine.is_main_process:
        hears += [*make_loggers(config.logger, run, to_dict(config)), ProgressBar(reporter)]
    if engine.is_main_process or state.is_sharded:
        hears += [
            CheckpointSaver(
                run,
                writes=engine.is_main_process,
                at_each_log=inputs.checkpoint_at_each_log,
                clock_resolution=inputs.clock_resolution,
            ),
            Preview(run, job.description, engine),
        ]
    trainer = Trainer(config, hears, monitor=inputs.monitor, engine=engine)
    reporter.start("training")
    trainer.fit(state, job.objective, inputs.batches, inputs.rng, inputs.gradient)
    reporter.finish()
    if trainer.interrupted:
        raise Interrupted(job.resume_command)


def _resume_text(state: TrainState, config: TrainConfig, *, exhausted: bool) -> str:
    """Say where a resumed training stands."""
    if exhausted:
        return f"nothing is left to train: all steps are paid for, and the weights took {state.step:,} of them"
    if state.progress(config) < 1:
        return f"going on after step {state.step:,}"
    done = f"{state.step:,} steps in {state.seconds / 60:.3g} minutes"
    return (
        f"nothing is left to train: {budget_text(config)} count from the start, and this run has done {done}; ask for"
        " more in all"
    )


class ProgressBar(Callback):
    """Moves a bar."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        shown = {name: value for name, value in numbers.items() if name not in ("lr", "gradient", "seconds")}
        text = "".join(f", {name} {value:.4g}" for name, value in shown.items())
        self._reporter.progress(metrics.progress, f"step {metrics.step:,}{text}")


class Preview(Callback):
    """Writes a picture of what the model draws by now, in few calls; training does not notice."""

    def __init__(self, run: Run, description: ModelSpec, engine: Engine) -> None:
        self._run, self._description, self._engine = run, description, engine
        self._last_drawn_at = time.monotonic()
        self._shows = not (description.family.why_no_samples or description.modality.entry_label_counts)

    def on_checkpoint(self, state: TrainState) -> None:
        due = self._shows and time.monotonic() - self._last_drawn_at > callbacks.CHECKPOINT_SECONDS
        if not (self._engine.broadcast_float(float(due)) if state.is_sharded else due):
            return
        averaged = state.ema_weights()
        self._last_drawn_at = time.monotonic()
        if not self._engine.is_main_process:
            return
        network = self._description.build(Rng(0)).to(self._engine.device)
        network.load_state_dict(averaged)
        few = replace(self._description.sampling, nfe=16)
        samples = Model.from_spec(self._description, network).sample_dataset(
            16, sampling=few, rng=Rng(0).fold_in("preview")
        )
        picture = io.BytesIO()
        samples.modality.show(samples.values, samples.given).save(picture, "PNG")
        replace_file(self._run.preview, picture.getvalue())


def budget_text(training: TrainConfig) -> str:
    """Say how long a training is to be."""
    number, unit = (f"{training.minutes:g}", "minute") if training.steps is None else (f"{training.steps:,}", "step")
    return f"{number} {unit}{'' if number == '1' else 's'}"
