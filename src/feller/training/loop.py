"""Training loop: a generator that yields the metrics of each step; the caller logs, saves and stops."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.core.gradient import Gradient, MeanGradient
from feller.core.precision import Precision
from feller.core.pytree import num_examples, tree_map
from feller.core.rng import Rng
from feller.networks.blocks.ema import EMA, UPDATES_KEY
from feller.networks.blocks.lora import LoRA
from feller.training.engine import Engine
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import TrainConfig, learning_rate, make_optimizer
from feller.training.training_inputs import example_source

FULL_PRECISION = ("auto", "fp32")
"""Precision settings that use full float32, as clipped per-example gradients require."""
BatchFn = Callable[[int, slice], Batch]
"""(step, slice of the global batch) -> this rank's part of the batch."""


@dataclass(frozen=True, eq=False)
class BestWeights:
    """EMA weights selected by their loss on held-out examples so far; none yet in the first steps."""

    step: int = 0
    """Number of training steps after which they were measured."""
    loss: float = math.inf
    """Their mean loss on the held-out examples."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Weights and buffers by name."""
    lowest: Tensor | None = None
    """Loss of each held-out example at the measurement with the lowest mean."""


@dataclass
class TrainState:
    """Mutable state of a training run: everything that a checkpoint contains."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA
    scaler: torch.amp.GradScaler
    """Loss scaling for float16, where small gradients would underflow; disabled for other precisions."""
    step: int = 0
    """Number of finished steps."""
    seconds: float = 0.0
    """Training time in seconds, including earlier sessions."""
    best: BestWeights | None = None
    """EMA weights selected by their loss on held-out examples; None if the last ones are used."""
    stopped_early: bool = False
    """True if training ended before its budget, because the loss on held-out examples no longer fell."""
    reused: Example | None = None
    """Examples that the next steps use again, with `reuse_batches`; None before new ones, and with several ranks."""
    is_sharded: bool = False
    """True if weights are sharded over ranks; then all ranks must call `weights` and `ema_weights`."""

    def progress(self, config: TrainConfig) -> float:
        """Return the spent fraction of the training budget."""
        return config.progress(self.step, self.seconds)

    def weights(self) -> dict[str, Tensor]:
        """Return the full weights by name, with LoRA updates merged."""
        return self._merged(gather_full(self.network.state_dict()))

    def ema_weights(self) -> dict[str, Tensor]:
        """Return the full EMA weights by name, with LoRA updates merged: the selected ones, if there are any."""
        return self.best.tensors if self.best is not None and self.best.tensors else self.averaged_weights()

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return the full EMA weights of the last step by name, with LoRA updates merged."""
        averaged = {name: value for name, value in self.ema.state_dict().items() if name != UPDATES_KEY}
        return self._merged(gather_full(averaged))

    def _merged(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.network.merged_state_dict(state) if isinstance(self.network, LoRA) else state


def gather_full(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return full tensors, gathered from sharded tensors; all ranks must call it in the same order."""
    return {name: _full(value) for name, value in tensors.items()}


def _full(value: Tensor) -> Tensor:
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def make_train_state(network: nn.Module, config: TrainConfig) -> TrainState:
    """Return the initial state of training for a network."""
    device = next((weight.device.type for weight in network.parameters()), "cpu")
    scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")
    best = BestWeights() if config.keep_best else None
    return TrainState(network, make_optimizer(network, config), EMA(network, config.ema_decay), scaler, best=best)


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one training step."""

    step: int
    """Number of finished steps, including this one."""
    loss: Tensor
    """Mean loss over the global batch; a tensor, because reading its value would synchronise the device."""
    lr: float
    grad_norm: Tensor
    """Norm of the gradient before clipping."""
    seconds: float
    """Training time so far, in seconds."""
    progress: float
    """Spent fraction of the training budget."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """Additional metrics of the objective, averaged over the global batch."""


def train(
    state: TrainState,
    objective: Objective,
    batches: BatchFn,
    config: TrainConfig,
    *,
    rng: Rng,
    engine: Engine,
    gradient: Gradient | None = None,
) -> Iterator[StepMetrics]:
    """Train until the budget of steps or minutes is spent; yield metrics after every step.

    Without a budget, training does not end. With a budget of steps, step k depends only on the train state, the seed
    and k: resumed runs are bit-identical, and data-parallel runs equal up to rounding. With a budget of minutes, the
    learning rate depends on the clock. Couplings pair only examples of the same rank. With `reuse_batches` and several
    ranks, a resumed run draws new examples instead of those in use when the run stopped.

    Args:
        state: Network, optimizer and counters; changed in place.
        objective: Objective to minimise.
        batches: Function (step, slice of the global batch) -> this rank's part of the batch.
        config: Batch size, learning rate and budget.
        rng: Random stream of the run.
        engine: Device and process group.
        gradient: Gradient estimator (default: the mean gradient).

    Raises:
        UsageError: If the device does not support the precision, clipped gradients are combined with a precision below
            float32, or the network is not told of an augmentation.
    """
    gradient = gradient or MeanGradient()
    precision: Precision = config.precision
    if gradient.needs_float32:
        if precision not in FULL_PRECISION:
            raise UsageError("per-example clipping needs float32", found=precision, remedy="Remove --train.precision")
        precision = "fp32"
    engine.check_precision(precision)
    local_rows = engine.local_slice(config.batch_size) if objective.shardable else slice(0, config.batch_size)
    local_batch_size = config.batch_size / (engine.world_size if objective.shardable else 1)
    network, optimizer, scaler = state.network, state.optimizer, state.scaler
    weights: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
    seconds_before, start_time = state.seconds, time.monotonic()
    example: Example | None = None if state.reused is None else engine.to_device(state.reused)
    source = example_source(objective, config.augmentation, network)

    def loss(network: nn.Module, example: Example) -> Tensor:
        with engine.autocast(precision):
            value = objective.loss(network, example)
        return scaler.scale(value.float()) if scaler.is_enabled() else value

    while (progress := engine.broadcast_float(state.progress(config))) < 1:
        if example is None or state.step % config.reuse_batches == 0:
            step_rng = Rng(rng.seed, local_rows.start, config.batch_size).fold_in("train", state.step)
            batch = engine.to_device(batches(state.step, local_rows))
            example = source.at(progress).draw(batch, step_rng, network)

        lr = learning_rate(config, state.step, progress)
        for group in optimizer.param_groups:
            group["lr"] = lr
        for weight in weights:
            weight.grad = None
        groups = (example,) if gradient.joins_examples else objective.similar_examples(example)
        parts = (part for group in groups for part in split_example(group, config.micro_batch))
        with engine.float32_matmul(precision):
            scaled_loss = gradient(loss, network, parts, local_batch_size)
        if not state.is_sharded:  # FSDP averages gradients in the backward pass
            engine.average_gradients(network)

        scale = scaler.get_scale()
        scaler.unscale_(optimizer)
        grad_norm = _full(nn.utils.clip_grad_norm_(weights, config.grad_clip_norm))
        scaler.step(optimizer)  # skips the step if a scaled gradient is infinite
        scaler.update()
        state.ema.update()

        state.step += 1
        is_reused = state.step % config.reuse_batches != 0 and engine.world_size == 1
        state.reused = example if is_reused else None
        state.seconds = seconds_before + time.monotonic() - start_time
        yield StepMetrics(
            step=state.step,
            loss=engine.all_reduce_mean(scaled_loss / scale),
            lr=lr,
            grad_norm=grad_norm,
            seconds=state.seconds,
            progress=state.progress(config),
            extras={name: engine.all_reduce_mean(metric) for name, metric in objective.metrics(example).items()},
        )


def split_example(example: Example, size: int | None) -> Iterator[Example]:
    """Split a batch of examples into micro-batches of at most `size` examples."""
    n = num_examples(example)
    if size is None or size >= n:
        yield example
        return
    for start in range(0, n, size):
        yield tree_map(lambda leaf, start=start: leaf[start : start + size], example)


def check_finite(metrics: StepMetrics) -> float:
    """Return the loss as a float; InputError if the loss is not finite."""
    value = metrics.loss.item()
    if not math.isfinite(value):
        raise InputError(
            f"the loss is {value} at step {metrics.step}; try a lower learning rate, --train.lr {metrics.lr / 3:.1g}"
        )
    return value
