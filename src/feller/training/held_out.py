"""Selection of weights by their loss on held-out examples, against overfitting."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from feller.core.rng import Rng
from feller.training.engine import Engine
from feller.training.loop import BestWeights, StepMetrics, TrainState, split_example
from feller.training.objective import Batch, Objective
from feller.training.optimizer import TrainConfig
from feller.training.trainer import Callback

EVERY, MIN_EVERY = 100, 5
"""Maximum and minimum interval between two measurements of the loss, in steps."""
PATIENCE = 8
"""Minimum number of intervals without selected weights after which a training of a given number of steps stops."""


class HeldOutSelection(Callback):
    """Callback that keeps the last EMA weights whose loss on held-out examples is not above the lowest so far.

    Above means by more than a standard error of the difference, so that chance does not select weights from before the
    decay of the learning rate: the one-standard-error rule.

    All measurements use the same times and noise, so that they differ only by the weights. They depend on the step
    alone, so that a resumed run selects the same weights.
    """

    def __init__(
        self, objective: Objective, network: nn.Module, batch: Batch, config: TrainConfig, *, rng: Rng, engine: Engine
    ) -> None:
        """Draw the examples.

        Args:
            objective: Objective of the training.
            network: Copy of the network, whose weights are overwritten.
            batch: Held-out examples.
            config: Training configuration.
            rng: Random stream of times and noise.
            engine: Device of the training.
        """
        self._objective, self._config, self._engine = objective, config, engine
        self._network = network.to(engine.device).eval().requires_grad_(False)
        self._example = objective.draw(engine.to_device(batch), rng, self._network)
        self._is_overfitting = False

    @staticmethod
    def interval(step: int) -> int:
        """Return the interval between measurements at a step; it grows with the steps, and not with their budget."""
        return min(EVERY, MIN_EVERY * 2 ** max(0, (step // 50).bit_length() - 1))

    @property
    def should_stop(self) -> bool:
        """True if the loss has been above the lowest for long; a training of a given time is never stopped."""
        return self._is_overfitting and self._config.may_stop_early

    def on_train_start(self, state: TrainState) -> None:
        self._check(state)

    def _check(self, state: TrainState) -> None:
        best = state.best
        patience = max(PATIENCE * self.interval(state.step), 0 if best is None else best.step)
        self._is_overfitting = best is not None and best.step > 0 and state.step - best.step >= patience
        state.stopped_early = self.should_stop and state.progress(self._config) < 1

    def on_step_end(self, state: TrainState, metrics: StepMetrics) -> None:
        if state.best is None or metrics.step % self.interval(metrics.step):
            return
        weights, lowest = state.averaged_weights(), state.best.lowest
        self._network.load_state_dict(weights)
        losses = self.losses()
        if lowest is None or losses.mean() < lowest.mean():
            lowest = losses
        excess = losses - lowest
        if excess.mean() <= excess.std() / math.sqrt(len(excess)):
            kept = {name: value.clone() for name, value in weights.items()}
            state.best = BestWeights(metrics.step, losses.mean().item(), kept, lowest)
        self._check(state)

    @torch.no_grad()
    def losses(self) -> Float64[Tensor, " n"]:
        """Return the loss of each example with the current weights of the copy."""
        size = self._config.micro_batch or self._config.batch_size
        with self._engine.autocast(self._config.precision):
            losses = [self._objective.loss(self._network, part) for part in split_example(self._example, size)]
        return torch.cat(losses).double().cpu()
