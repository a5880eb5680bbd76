"""Trainer: the training loop with callbacks, which save, log, watch and stop it."""

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
"""Steps."""


class Callback:
    """Hears how a training goes, and may stop it; implement what you need."""

    @property
    def should_stop(self) -> bool:
        """Whether no further step may be taken; of several processes the first one decides."""
        return False

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a checkpoint is due; of a sharded training the first process decides."""
        return False

    def on_train_start(self, state: TrainState) -> None:
        """Hear that the first step of a sitting is next."""

    def on_step_end(self, state: TrainState, metrics: StepMetrics) -> None:
        """Hear of each step; looking at a tensor of it waits for the device."""

    def on_log(self, state: TrainState, metrics: StepMetrics, numbers: dict[str, float]) -> None:
        """Hear the numbers of every tenth step, of the first and the last: those that may be told."""

    def on_checkpoint(self, state: TrainState) -> None:
        """Hear that a checkpoint is due; the state was found sound."""

    def on_interrupt(self, state: TrainState) -> None:
        """Hear that Ctrl-C, or a polite request to end, has stopped the training; a last checkpoint was made."""

    def on_train_end(self, state: TrainState) -> None:
        """Hear that a sitting has ended without an error, after its last checkpoint."""


class StepMonitor:
    """Says which numbers of a step may be told, and refuses a step that spoiled the weights."""

    def check(self, metrics: StepMetrics) -> None:
        """Refuse a step after which nothing may be saved.

        Raises:
            InputError: If the loss is not finite.
        """
        check_finite(metrics)

    def numbers(self, metrics: StepMetrics) -> dict[str, float]:
        """Return what is logged of a step, beside its number."""
        extras = {name: value.item() for name, value in metrics.extras.items()}
        loss, seconds = metrics.loss.item(), round(metrics.seconds, 3)
        return {"loss": loss, **self.core_numbers(metrics), "seconds": seconds, **extras}

    def core_numbers(self, metrics: StepMetrics) -> dict[str, float]:
        """Return rate and length of the gradient; a step that float16 left out has no length."""
        length = metrics.grad_norm.item()
        return {"lr": metrics.lr, **({"gradient": length} if math.isfinite(length) else {})}


class Trainer:
    """Trains until the budget is spent, a callback stops it, or Ctrl-C comes; callbacks hear of it in their order."""

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
        """Whether Ctrl-C stopped the last sitting before its end."""

    def fit(
        self, state: TrainState, objective: Objective, batches: BatchFn, rng: Rng, gradient: Gradient | None = None
    ) -> TrainState:
        """Train, and return the state, which is changed in place.

        Args:
            state: Network, optimizer, average and counters; of a resumed training as its checkpoint left them.
            objective: What to learn.
            batches: Gives each step its examples.
            rng: Source of all randomness.
            gradient: How losses become gradients; the mean by default.

        Raises:
            InputError: If a step spoils the weights; the last checkpoint stays.
            UsageError: If gradient, precision and device do not go together.
        """
        for callback in self.callbacks:
            callback.on_train_start(state)
        last: StepMetrics | None = None
        steps = train(state, objective, batches, self.config, rng=rng, engine=self.engine, gradient=gradient)
        with interrupt_event() as interrupt:
            while not (stop := self._stop_reason(interrupt)) and (metrics := next(steps, None)) is not None:
                last = metrics
                self._handle_step(state, metrics)
            if last is not None and not _is_logged(last):
                self._log(state, last)
            if state.step:  # also where nothing was left to train: a file may have been lost
                self._save(state, last)
            unfinished = self.engine.broadcast_float(state.progress(self.config)) < 1
            self.interrupted = stop == INTERRUPTED and unfinished and not self._should_stop()
            for callback in self.callbacks if self.interrupted else ():
                callback.on_interrupt(state)
            for callback in self.callbacks:
                callback.on_train_end(state)
        return state

    def _should_stop(self) -> bool:
        return any(callback.should_stop for callback in self.callbacks)

    def _stop_reason(self, interrupt: threading.Event) -> float:
        """Return why the next step is not taken, or 0, as the first process decides."""
        return self.engine.broadcast_float(INTERRUPTED if interrupt.is_set() else float(self._should_stop()))

    def _handle_step(self, state: TrainState, metrics: StepMetrics) -> None:
        for callback in self.callbacks:
            callback.on_step_end(state, metrics)
        if _is_logged(metrics):
            self._log(state, metrics)
        due = any(callback.wants_checkpoint for callback in self.callbacks)
        if self.engine.broadcast_float(float(due)) if state.is_sharded else due:
            self._save(state, metrics)

    def _log(self, state: TrainState, metrics: StepMetrics) -> None:
        self.monitor.check(metrics)
        numbers = self.monitor.numbers(metrics)
        for callback in self.callbacks:
            callback.on_log(state, metrics, numbers)

    def _save(self, state: TrainState, metrics: StepMetrics | None) -> None:
        if metrics is not None:
            self.monitor.check(metrics)  # a broken state must not replace a good one
        for callback in self.callbacks:
            callback.on_checkpoint(state)


INTERRUPTED = 2.0
"""What the first process tells the others when Ctrl-C came; 1 where a callback stops the training."""


def _is_logged(metrics: StepMetrics) -> bool:
    return metrics.step == 1 or metrics.step % LOG_EVERY == 0
