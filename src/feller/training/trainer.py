"""Trainer: the training loop with callbacks for saving, logging and stopping."""

import math
import threading
from collections.abc import Sequence

from feller.core.gradient import Gradient
from feller.core.interrupts import interrupt_event
from feller.core.rng import Rng
from feller.training.engine import Engine, get_engine
from feller.training.loop import BatchFn, StepMetrics, TrainState, check_finite, train
from feller.training.objective import Objective
from feller.training.optimizer import TrainConfig

LOG_EVERY = 10
"""Interval between logged steps, in steps."""


class Callback:
    """Base class of trainer callbacks; override the methods you need."""

    @property
    def should_stop(self) -> bool:
        """True if training should stop before the next step; the main process decides for all ranks."""
        return False

    @property
    def wants_checkpoint(self) -> bool:
        """True if a checkpoint is due; for sharded training the main process decides."""
        return False

    def on_train_start(self, state: TrainState) -> None:
        """Called before the first step of a session."""

    def on_step_end(self, state: TrainState, metrics: StepMetrics) -> None:
        """Called after each step; reading a tensor of `metrics` synchronises the device."""

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        """Called after the first, every tenth and the last step; `numbers` holds the metrics to log by name.

        Private runs withhold some metrics.
        """

    def on_checkpoint(self, state: TrainState) -> None:
        """Called when a checkpoint is due, after the check that the loss is finite."""

    def on_interrupt(self, state: TrainState) -> None:
        """Called after the last checkpoint if Ctrl-C or a termination signal stopped the training."""

    def on_train_end(self, state: TrainState) -> None:
        """Called at the end of a session without an error, after its last checkpoint."""


class StepMonitor:
    """Monitor that selects the metrics to log, and checks that the loss of each step is finite."""

    def check(self, metrics: StepMetrics) -> None:
        """Check that the loss of a step is finite, before the state is saved; InputError if the loss is not finite."""
        check_finite(metrics)

    def numbers(self, metrics: StepMetrics) -> dict[str, float]:
        """Return the metrics to log for a step: name -> value."""
        extras = {name: value.item() for name, value in metrics.extras.items()}
        loss, seconds = metrics.loss.item(), round(metrics.seconds, 3)
        return {"loss": loss, **self.core_numbers(metrics), "seconds": seconds, **extras}

    def core_numbers(self, metrics: StepMetrics) -> dict[str, float]:
        """Return learning rate and gradient norm of a step; a step skipped by loss scaling has no gradient norm."""
        grad_norm = metrics.grad_norm.item()
        return {"lr": metrics.lr, **({"gradient": grad_norm} if math.isfinite(grad_norm) else {})}


class Trainer:
    """Runner of the training loop and its callbacks, until the budget is spent or a callback or Ctrl-C stops it."""

    def __init__(
        self,
        config: TrainConfig,
        callbacks: Sequence[Callback] = (),
        *,
        monitor: StepMonitor | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.config = config
        self.callbacks = tuple(callbacks)
        self.monitor = monitor or StepMonitor()
        self.engine = engine or get_engine()
        self.interrupted = False
        """True if Ctrl-C stopped the last session before its end."""

    def fit(
        self, state: TrainState, objective: Objective, batches: BatchFn, rng: Rng, gradient: Gradient | None = None
    ) -> TrainState:
        """Train and return the state, which is changed in place.

        Args:
            state: Network, optimizer, EMA and counters, new or from a checkpoint.
            objective: Objective to minimise.
            batches: Function (step, slice of the global batch) -> this rank's part of the batch.
            rng: Random stream of the run.
            gradient: Gradient estimator (default: the mean gradient).

        Raises:
            InputError: If the loss becomes non-finite; the last checkpoint is kept.
            UsageError: If gradient, precision and device are incompatible.
        """
        metrics: StepMetrics | None = None
        steps = train(state, objective, batches, self.config, rng=rng, engine=self.engine, gradient=gradient)
        for callback in self.callbacks:
            callback.on_train_start(state)
        with interrupt_event() as interrupt:
            while not self._must_stop(interrupt):
                next_metrics = next(steps, None)
                if next_metrics is None:  # the budget is spent
                    break
                metrics = next_metrics
                for callback in self.callbacks:
                    callback.on_step_end(state, metrics)
                if _is_logged(metrics):
                    self._log(state, metrics)
                if self._is_checkpoint_due(state):
                    self._save(state, metrics)
            if metrics is not None and not _is_logged(metrics):
                self._log(state, metrics)
            if state.step:  # even without a step in this session, since a file may have been lost
                self._save(state, metrics)
            is_unfinished = state.progress(self.config) < 1 and not self._wants_stop()
            self.interrupted = self.engine.broadcast_bool(interrupt.is_set() and is_unfinished)
            if self.interrupted:
                for callback in self.callbacks:
                    callback.on_interrupt(state)
            for callback in self.callbacks:
                callback.on_train_end(state)
        return state

    def _wants_stop(self) -> bool:
        return any(callback.should_stop for callback in self.callbacks)

    def _must_stop(self, interrupt: threading.Event) -> bool:
        """Return True if training stops before the next step; the main process decides for all ranks."""
        return self.engine.broadcast_bool(interrupt.is_set() or self._wants_stop())

    def _is_checkpoint_due(self, state: TrainState) -> bool:
        """Return True if a checkpoint is due; all ranks write a sharded state, so the main process decides for them."""
        is_due = any(callback.wants_checkpoint for callback in self.callbacks)
        return self.engine.broadcast_bool(is_due) if state.is_sharded else is_due

    def _log(self, state: TrainState, metrics: StepMetrics) -> None:
        self.monitor.check(metrics)
        numbers = self.monitor.numbers(metrics)
        for callback in self.callbacks:
            callback.on_log(state, metrics, numbers)

    def _save(self, state: TrainState, metrics: StepMetrics | None) -> None:
        if metrics is not None:
            self.monitor.check(metrics)  # never overwrite a good checkpoint with a broken state
        for callback in self.callbacks:
            callback.on_checkpoint(state)


def _is_logged(metrics: StepMetrics) -> bool:
    return metrics.step == 1 or metrics.step % LOG_EVERY == 0
