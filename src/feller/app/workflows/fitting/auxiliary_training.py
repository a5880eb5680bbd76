"""Training of one auxiliary network of a run before its model: checkpoints, time limit and weights."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from feller.app.reporter import Reporter
from feller.core.errors import InputError
from feller.core.interrupts import interrupt_event
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors
from feller.models.spec import ModelSpec, load_aux_network, save_spec
from feller.training import callbacks
from feller.training.checkpoint import load_aux_checkpoint, save_aux_checkpoint
from feller.training.engine import Engine
from feller.training.loop import BatchFn, TrainState, make_train_state, train
from feller.training.objective import Objective
from feller.training.optimizer import TrainConfig

MAX_TIME_FRACTION = 0.25
"""Largest fraction of the training time in minutes that one auxiliary network takes, by default."""
MIN_PACE_STEPS = 10
"""Number of steps after which the speed of training is known."""


@dataclass(frozen=True, kw_only=True)
class AuxiliaryTraining:
    """Loads or trains the auxiliary networks of a run, such as an image tokenizer, before the model is trained."""

    run: Run
    pretrained: frozenset[str]
    """Names of the networks that are not trained, because their weights come from the start model or another run."""
    seed: int
    engine: Engine
    minutes: float | None
    """Training time of the fit, of which one network takes at most `time_fraction`; None for no limit."""
    model_state: TrainState
    """Training state of the model, to whose training time the auxiliary networks add theirs."""
    time_fraction: float = MAX_TIME_FRACTION
    """Largest fraction of the training time that one network takes."""

    def check_none_lost(self, names: list[str]) -> None:
        """Raise an error if a file of the networks `names` is missing although training of the model has started.

        Raises:
            InputError: If a network file is missing.
        """
        missing = [name for name in names if not self.run.aux_weights(name).is_file()]
        if missing and self.run.state.is_file():
            raise InputError(
                f"{self.run.aux_weights(missing[0])} is missing, but the model was trained with this network",
                remedy="Restore it or start a new run",
            )

    def load_or_train(
        self, name: str, module: torch.nn.Module, spec: ModelSpec, train: Callable[[], None]
    ) -> ModelSpec:
        """Load the weights of an auxiliary network from the run, or train the network, and record the weights' hash.

        Raises:
            InputError: If the file with the weights is damaged or belongs to another run.
        """
        file = self.run.aux_weights(name)
        is_new = not file.is_file()
        if is_new and name not in self.pretrained:
            train()
        self.engine.barrier()  # wait until all processes have checked for the file
        if is_new and self.engine.is_main_process:
            save_tensors(file, module.state_dict())
            self.run.aux_state.unlink(missing_ok=True)
        self.engine.barrier()
        weights_hash = load_aux_network(self.run, name, module, None if is_new else spec.aux_hashes.get(name))
        spec = replace(spec, aux_hashes={**spec.aux_hashes, name: weights_hash})
        if self.engine.is_main_process:
            save_spec(self.run, spec)
        return spec

    def rng_for(self, name: str) -> Rng:
        """Return the random number source for training the auxiliary network `name`."""
        return Rng(self.seed).fold_in(name)

    def train(
        self,
        name: str,
        objective: Objective,
        feed: BatchFn,
        network: torch.nn.Module,
        training: TrainConfig,
        reporter: Reporter,
    ) -> None:
        """Train an auxiliary network for its training budget, and replace its weights by their EMA.

        If the fit has a training time, at most `time_fraction` of it is used.

        Raises:
            KeyboardInterrupt: On Ctrl-C or SIGTERM; the training state is saved.
        """
        state: TrainState = make_train_state(network.to(self.engine.device).train().requires_grad_(True), training)
        load_aux_checkpoint(self.run, state, name)
        reporter.start(f"training the {name}")
        saved_at = time.monotonic()
        with interrupt_event() as interrupt:
            is_paced = False
            while not is_paced:
                training, is_paced = self._within_minutes(name, state, training, reporter)
                for report in train(state, objective, feed, training, rng=self.rng_for(name), engine=self.engine):
                    reporter.progress(report.progress, f"step {report.step:,}, loss {report.loss.item():.4g}")
                    is_interrupted = self.engine.broadcast_bool(interrupt.is_set())
                    if is_interrupted or time.monotonic() - saved_at > callbacks.CHECKPOINT_SECONDS:
                        if self.engine.is_main_process:
                            save_aux_checkpoint(self.run, state, name)
                        saved_at = time.monotonic()
                    if is_interrupted:
                        raise KeyboardInterrupt
                    if not is_paced and report.step >= MIN_PACE_STEPS:
                        break
                else:
                    is_paced = True
        if self.minutes is not None:
            self.model_state.seconds += state.seconds
        state.ema.copy_to(network)
        network.eval().requires_grad_(False).to("cpu")
        reporter.finish()

    def _within_minutes(
        self, name: str, state: TrainState, training: TrainConfig, reporter: Reporter
    ) -> tuple[TrainConfig, bool]:
        """Return the training settings, with a time limit if the steps take too long, and whether this is known.

        The settings with a time limit let the learning rate decay at its end.
        """
        if self.minutes is None or training.steps is None:
            return training, True
        limit = self.time_fraction * self.minutes
        if state.step < MIN_PACE_STEPS:
            return training, False
        seconds = self.engine.broadcast_float(state.seconds)
        if seconds / state.step * training.steps <= 60 * limit:
            return training, True
        reporter.log(
            f"training the {name} takes at most {limit:.2g} minutes, {self.time_fraction:.0%} of the training time,"
            f" instead of {training.steps:,} steps; set a larger --minutes, or the steps, see feller fit --help"
        )
        return replace(training, steps=None, minutes=limit), True
