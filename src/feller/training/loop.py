"""The one loop that trains, a generator: logging, previews and stopping belong to the caller."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.core.gradient import Gradient, MeanGradient
from feller.core.pytree import num_examples, tree_map
from feller.core.rng import Rng
from feller.networks.blocks.ema import EMA, UPDATES_KEY
from feller.networks.blocks.lora import LoRA
from feller.training.engine import Engine
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import TrainConfig, learning_rate, make_optimizer

FULL_PRECISION = ("auto", "fp32")
"""Precisions that leave float32 whole, where a gradient asks for it."""
BatchFn = Callable[[int, slice], Batch]
"""(step, rows of the whole batch) -> this process's part of the batch."""


@dataclass
class TrainState:
    """All that changes while training, and all that a checkpoint must hold."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Of training, over all sittings."""
    is_sharded: bool = False
    """Whether each process keeps a part of it only; then all of them together say what it holds."""
    scaler: torch.amp.GradScaler | None = None
    """Scales losses in float16, whose gradients would vanish."""

    def progress(self, config: TrainConfig) -> float:
        """Return the share of the budget that is spent."""
        return config.progress(self.step, self.seconds)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights under the names of the plain network, whatever they are learned through."""
        return self._merged(gather_full(self.network.state_dict()))

    def ema_weights(self) -> dict[str, Tensor]:
        """Return their running average, under the same names."""
        averaged = {name: value for name, value in self.ema.state_dict().items() if name != UPDATES_KEY}
        return self._merged(gather_full(averaged))

    def _merged(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.network.merged_state_dict(state) if isinstance(self.network, LoRA) else state


def gather_full(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with all parts that other processes keep; all must ask, in the same order."""
    return {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in tensors.items()}


def make_train_state(network: nn.Module, config: TrainConfig) -> TrainState:
    """Start from a fresh network."""
    device = next((weight.device.type for weight in network.parameters()), "cpu")
    scaler = torch.amp.GradScaler(device) if config.precision == "fp16" else None
    return TrainState(network, make_optimizer(network, config), EMA(network, config.ema_decay), scaler=scaler)


@dataclass(frozen=True)
class StepMetrics:
    """One step, as the caller sees it."""

    step: int
    """Steps done."""
    loss: Tensor
    """Mean over the whole batch; a tensor, so that only who looks at it waits for the device."""
    lr: float
    grad_norm: Tensor
    """Length of the gradient before clipping."""
    seconds: float
    """Of training so far."""
    progress: float
    """Of the budget that is spent."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What the objective tells beside the loss, as means over the whole batch."""


def train(
    train_state: TrainState,
    objective: Objective,
    batches: BatchFn,
    config: TrainConfig,
    *,
    rng: Rng,
    engine: Engine,
    gradient: Gradient | None = None,
) -> Iterator[StepMetrics]:
    """Train until the steps or minutes are used up; yield after every step.

    Without a budget it goes on for ever. With one in steps, what step k does depends on the learner's state, the seed
    and k alone, so a resumed run goes on bit for bit, and several processes together do what one would, up to rounding;
    with one in minutes, the clock has a say in the rate. A coupling pairs what one process has. Examples that serve
    several steps are kept by the process that drew them; a run that is resumed between two draws draws anew.

    Args:
        train_state: Network, optimiser and counters; changed in place.
        objective: What to learn.
        batches: Gives each step its examples.
        config: Sizes, rates and the budget.
        rng: Source of all randomness.
        engine: Device and processes.
        gradient: How losses become gradients; the mean by default.

    Raises:
        UsageError: If a gradient that is clipped is to be computed in less than float32, or the device lacks the
            precision.
    """
    gradient = gradient or MeanGradient()
    precision = config.precision
    if gradient.needs_float32:
        if precision not in FULL_PRECISION:
            raise UsageError("clipped gradients need float32", found=precision, remedy="Leave --train.precision out")
        precision = "fp32"
    engine.check_precision(precision)
    network, scaler = train_state.network, train_state.scaler if precision == "fp16" else None
    scale = scaler.scale(torch.ones((), device=engine.device)) if scaler is not None else torch.ones(())
    rows = engine.local_slice(config.batch_size) if objective.shardable else slice(0, config.batch_size)
    expected = config.batch_size / (engine.world_size if objective.shardable else 1)
    weights: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
    before, started = train_state.seconds, time.monotonic()
    example: Example | None = None

    def loss(network: nn.Module, example: Example) -> Tensor:
        with engine.autocast(precision):
            value = objective.loss(network, example)
        return value if scaler is None else value.float() * scale

    while (progress := engine.broadcast_float(train_state.progress(config))) < 1:
        if example is None or train_state.step % config.reuse_batches == 0:
            step_rng = Rng(rng.seed, rows.start, config.batch_size).fold_in("train", train_state.step)
            batch = engine.to_device(batches(train_state.step, rows))
            example = objective.draw(batch, step_rng, network)
        for weight in weights:
            weight.grad = None
        lr = learning_rate(config, train_state.step, progress)
        for group in train_state.optimizer.param_groups:
            group["lr"] = lr
        with engine.float32_matmul(precision):
            value = gradient(loss, network, _split(example, config.micro_batch), expected)
        if not train_state.is_sharded:  # there each backward pass has averaged them
            engine.average_gradients(network)
        if scaler is None:
            grad_norm = _clip(weights, config.grad_clip_norm)
            train_state.optimizer.step()
        else:
            value = value / scale
            scaler.unscale_(train_state.optimizer)
            grad_norm = _clip(weights, config.grad_clip_norm)
            scaler.step(train_state.optimizer)  # which leaves out a step whose gradient is infinite
            scaler.update()
            scale = scaler.scale(torch.ones((), device=engine.device))
        train_state.ema.update()
        train_state.step += 1
        train_state.seconds = before + time.monotonic() - started
        extras = {name: engine.all_reduce_mean(number) for name, number in objective.metrics(example).items()}
        yield StepMetrics(
            train_state.step,
            engine.all_reduce_mean(value),
            lr,
            grad_norm,
            train_state.seconds,
            train_state.progress(config),
            extras,
        )


def _clip(weights: list[Tensor], max_norm: float) -> Tensor:
    """Shorten a gradient that is too long; return how long it was."""
    return gather_full({"size": nn.utils.clip_grad_norm_(weights, max_norm)})["size"]


def _split(example: Example, size: int | None) -> Iterator[Example]:
    """Cut examples into micro-batches."""
    n = num_examples(example)
    if size is None or size >= n:
        yield example
        return
    for start in range(0, n, size):
        yield tree_map(lambda leaf, start=start: leaf[start : start + size], example)


def check_finite(metrics: StepMetrics) -> float:
    """Return the loss as a number.

    Raises:
        InputError: If it is not finite.
    """
    value = metrics.loss.item()
    if not math.isfinite(value):
        raise InputError(
            f"the loss became {value} at step {metrics.step}; a lower rate (--train.lr {metrics.lr / 3:.1g}) mostly"
            " helps"
        )
    return value
