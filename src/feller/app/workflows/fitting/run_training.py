"""Training of a run: job, inputs, checkpoints, preview and interruption by the user."""

import contextlib
import copy
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
from feller.data.batches import batch_loader
from feller.data.modality import Dataset
from feller.data.tables.modality import GUESSED_NOTE
from feller.evaluation.comparison import subsample
from feller.evaluation.number_format import format_brief
from feller.models.model import Model
from feller.models.spec import ModelSpec, save_spec
from feller.networks.blocks.lora import LoRA
from feller.training import callbacks
from feller.training.callbacks import CheckpointSaver, make_loggers
from feller.training.checkpoint import load_checkpoint
from feller.training.engine import Engine
from feller.training.held_out import HeldOutSelection
from feller.training.loop import BatchFn, StepMetrics, TrainState
from feller.training.objective import Objective
from feller.training.optimizer import TrainConfig
from feller.training.parallelize import parallelize
from feller.training.trainer import Callback, StepMonitor, Trainer

SELECTION_BATCHES = 4
"""Maximum number of batches of held-out examples that select the weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob:
    """Everything that a training run needs: model, objective, configuration, training state and data.

    The job was validated before any file is written.
    """

    record: dict[str, Any]
    """Content of recipe.json."""
    summary: str
    """Description of the job for the log."""
    notes: tuple[str, ...]
    """Notes on data conversions and default choices, for the log."""
    config: TrainConfig
    objective: Objective
    description: ModelSpec
    state: TrainState
    resume_command: str
    data: Dataset | None = None
    """Training data; None if the start model generates the training pairs."""
    held_out: Dataset | None = None
    """Held-out data that select the weights; None if the last weights are used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingInputs:
    """Inputs of a training session: batches, random streams, gradient estimator and monitor."""

    batches: BatchFn
    rng: Rng
    gradient: Gradient | None = None
    """Gradient estimator; None for the mean gradient of the batch."""
    callbacks: tuple[Callback, ...] = ()
    monitor: StepMonitor = field(default_factory=StepMonitor)
    """Monitor of the training steps, which filters logged metrics and stops training after failures."""
    clock_resolution: float = 0.0
    """Unit in seconds to whose multiples recorded training times are rounded up; 0 disables rounding."""
    checkpoint_at_each_log: bool = False
    """True to save a checkpoint after every logged step, so that a failed training leaves the last good weights."""


class Interrupted(KeyboardInterrupt):
    """Interruption by Ctrl-C, with a message about saved files.

    The class does not derive from `Exception`, so that general error handlers do not catch it.
    """

    def __init__(self, command: str, saved: str = "all is saved. Continue with") -> None:
        super().__init__(f"interrupted; {saved}: {command}")


@contextlib.contextmanager
def interruptible(command: str, saved: str = "all is saved. Continue with") -> Iterator[None]:
    """Context manager that raises `Interrupted` on Ctrl-C or SIGTERM; files that were already written are kept."""
    try:
        with sigterm_as_interrupt():
            yield
    except KeyboardInterrupt as error:
        raise Interrupted(command, saved) from error


def interruptible_report(subject: str, command: str) -> contextlib.AbstractContextManager[None]:
    """Return a context manager like `interruptible`, for writing the report after training."""
    return interruptible(command, f"{subject} is saved. Write its report with")


def restore_state(run: Run, job: TrainingJob, *, resume: bool, exhausted: bool, reporter: Reporter) -> None:
    """Restore the training state of a job from the checkpoint in a run.

    Args:
        run: Run folder.
        job: Training job; its state is modified in place.
        resume: True to resume from the checkpoint; otherwise training starts at step 0.
        exhausted: True if no further training step is allowed, because the privacy budget is spent.
        reporter: Log output.

    Raises:
        InputError: If the run is damaged, or its privacy budget is spent and nothing was saved.
    """
    if resume and (run.state.is_file() or run.weights.is_file()):
        note = load_checkpoint(run, job.state)
        reporter.log(_resume_text(job.state, job.config, exhausted=exhausted))
        if note:
            reporter.log(note)
    elif exhausted:
        raise InputError(
            f"the privacy budget of {run.path} is spent, and no step was saved before the process was killed",
            remedy="Start again with --overwrite, which spends a new budget and records the old one",
        )


def record_job(run: Run, job: TrainingJob, engine: Engine, reporter: Reporter) -> None:
    """Write the model specification and the recipe to the run folder, and log the training job."""
    if engine.is_main_process:
        save_spec(run, job.description)
        run.write_record(run.recipe, job.record)
    for note in job.notes:
        (reporter.log if note == GUESSED_NOTE else reporter.note)(note)
    reporter.log(f"{job.summary}, {budget_text(job.config)}; writing to {run.path}")


def run_training(run: Run, job: TrainingJob, inputs: TrainingInputs, engine: Engine, reporter: Reporter) -> None:
    """Train until the training budget is spent, and save checkpoints.

    Raises:
        InputError: If the loss is no longer finite.
        Interrupted: If training is interrupted by Ctrl-C; the run is saved.
    """
    state, config = job.state, job.config
    all_callbacks: list[Callback] = [*inputs.callbacks, *_selection(job, inputs.rng, engine)]
    parallelize(state, config, engine)
    if engine.is_main_process:
        all_callbacks += [*make_loggers(config.logger, run, to_dict(config)), ProgressBar(reporter)]
    if engine.is_main_process or state.is_sharded:
        all_callbacks += [
            CheckpointSaver(
                run,
                writes=engine.is_main_process,
                at_each_log=inputs.checkpoint_at_each_log,
                clock_resolution=inputs.clock_resolution,
            ),
            Preview(run, job.description, engine),
        ]
    trainer = Trainer(config, all_callbacks, monitor=inputs.monitor, engine=engine)
    first_step, state.stopped_early = state.step, False  # a resumed run with other options may go on
    reporter.start("training")
    trainer.fit(state, job.objective, inputs.batches, inputs.rng, inputs.gradient)
    reporter.finish()
    if trainer.interrupted:
        raise Interrupted(job.resume_command)
    if state.stopped_early and state.step > first_step:
        reporter.log(_early_text(state))
    if state.best is not None and state.best.tensors:
        reporter.log(f"kept the weights of step {state.best.step:,}: held-out loss {format_brief(state.best.loss)}")


def _selection(job: TrainingJob, rng: Rng, engine: Engine) -> Iterator[Callback]:
    """Yield the callback that selects weights by their loss on held-out examples, if the job has such examples."""
    if job.held_out is not None:
        rows = subsample(job.held_out, SELECTION_BATCHES * job.config.batch_size, rng.fold_in("held-out"))
        batch = batch_loader(rows, len(rows), rng.fold_in("held-out"))(0, slice(None))
        trained = job.state.network
        network = copy.deepcopy(trained.network if isinstance(trained, LoRA) else trained)  # measures merged weights
        yield HeldOutSelection(
            job.objective, network, batch, job.config, rng=rng.fold_in("held-out noise"), engine=engine
        )


def _early_text(state: TrainState) -> str:
    """Return a log line that states why training ended before its budget was spent."""
    return f"training ended after step {state.step:,}, because the held-out loss no longer fell (early stopping)"


def _resume_text(state: TrainState, config: TrainConfig, *, exhausted: bool) -> str:
    """Return a log line that states at which step training resumes."""
    if exhausted:
        return f"nothing left to train: the privacy budget is spent ({state.step:,} steps taken)"
    if state.stopped_early and config.may_stop_early:
        return f"nothing left to train: {_early_text(state)}"
    if state.progress(config) < 1:
        return f"resuming after step {state.step:,}"
    progress_text = f"{state.step:,} steps in {state.seconds / 60:.3g} minutes"
    return (
        f"nothing left to train: the budget of {budget_text(config)} counts from the start, and this run has done"
        f" {progress_text}; set a larger total"
    )


class ProgressBar(Callback):
    """Callback that shows the logged metrics in the progress bar."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        displayed = {name: value for name, value in numbers.items() if name not in ("lr", "gradient", "seconds")}
        text = "".join(f", {name} {value:.4g}" for name, value in displayed.items())
        self._reporter.progress(metrics.progress, f"step {metrics.step:,}{text}")


class Preview(Callback):
    """Callback that writes a preview image of samples drawn with the EMA weights; it does not affect training."""

    def __init__(self, run: Run, description: ModelSpec, engine: Engine) -> None:
        self._run, self._description, self._engine = run, description, engine
        self._last_drawn_at = time.monotonic()
        self._shows = not (description.family.why_no_samples or description.modality.entry_label_counts)

    def on_checkpoint(self, state: TrainState) -> None:
        is_due = self._shows and time.monotonic() - self._last_drawn_at > callbacks.CHECKPOINT_SECONDS
        if not (self._engine.broadcast_bool(is_due) if state.is_sharded else is_due):
            return
        ema_weights = state.ema_weights()
        self._last_drawn_at = time.monotonic()
        if not self._engine.is_main_process:
            return
        network = self._description.build(Rng(0)).to(self._engine.device)
        network.load_state_dict(ema_weights)
        sampling = replace(self._description.sampling, nfe=16)
        samples = Model.from_spec(self._description, network).sample_dataset(
            16, sampling=sampling, rng=Rng(0).fold_in("preview")
        )
        buffer = io.BytesIO()
        samples.modality.show(samples.values, samples.given).save(buffer, "PNG")
        replace_file(self._run.preview, buffer.getvalue())


def budget_text(training: TrainConfig) -> str:
    """Return the training budget, in steps or time, as text."""
    number, unit = (f"{training.minutes:g}", "minute") if training.steps is None else (f"{training.steps:,}", "step")
    return f"{number} {unit}{'' if number == '1' else 's'}"
