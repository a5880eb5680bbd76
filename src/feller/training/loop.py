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
from feller.networks.blocks.ema import EMA, UPDATES
from feller.networks.blocks.lora import LowRank
from feller.training.engine import Engine
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import Training, make_optimizer, rate

WHOLE = ("auto", "fp32")
"""Precisions that leave float32 whole, where a gradient asks for it."""
Batches = Callable[[int, slice], Batch]
"""(step, rows of the whole batch) -> this process's part of the batch."""


@dataclass
class TrainState:
    """All that changes while training, and all that a checkpoint must hold."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: EMA
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Of training, over all sittings."""
    sharded: bool = False
    """Whether each process keeps a part of it only; then all of them together say what it holds."""
    scaler: torch.amp.GradScaler | None = None
    """Scales losses in float16, whose gradients would vanish."""

    def share(self, training: Training) -> float:
        """Return the share of the budget that is spent."""
        return training.share(self.step, self.seconds)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights under the names of the plain network, whatever they are learned through."""
        return self._plain(whole(self.network.state_dict()))

    def averaged(self) -> dict[str, Tensor]:
        """Return their running average, under the same names."""
        averaged = {name: value for name, value in self.average.state_dict().items() if name != UPDATES}
        return self._plain(whole(averaged))

    def _plain(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.network.plain(state) if isinstance(self.network, LowRank) else state


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with all parts that other processes keep; all must ask, in the same order."""
    return {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in tensors.items()}


def make_train_state(network: nn.Module, training: Training) -> TrainState:
    """Start from a fresh network."""
    device = next((weight.device.type for weight in network.parameters()), "cpu")
    scaler = torch.amp.GradScaler(device) if training.precision == "fp16" else None
    return TrainState(network, make_optimizer(network, training), EMA(network, training.average), scaler=scaler)


@dataclass(frozen=True)
class StepMetrics:
    """One step, as the caller sees it."""

    step: int
    """Steps done."""
    loss: Tensor
    """Mean over the whole batch; a tensor, so that only who looks at it waits for the device."""
    lr: float
    gradient: Tensor
    """Length of the gradient before clipping."""
    seconds: float
    """Of training so far."""
    share: float
    """Of the budget that is spent."""
    notes: dict[str, Tensor] = field(default_factory=dict)
    """What the objective tells beside the loss, as means over the whole batch."""


def train(
    learner: TrainState,
    objective: Objective,
    batches: Batches,
    training: Training,
    *,
    draws: Rng,
    engine: Engine,
    gradient: Gradient | None = None,
) -> Iterator[StepMetrics]:
    """Train until the steps or minutes are used up; yield after every step.

    Without a budget it goes on for ever. With one in steps, what step k does depends on the learner's state, the seed
    and k alone, so a resumed run goes on bit for bit, and several processes together do what one would, up to rounding;
    with one in minutes, the clock has a say in the rate. A coupling pairs what one process has. Examples that serve
    several steps are kept by the process that drew them; a run that is resumed between two draws draws anew.

    Args:
        learner: Network, optimiser and counters; changed in place.
        objective: What to learn.
        batches: Gives each step its examples.
        training: Sizes, rates and the budget.
        draws: Source of all randomness.
        engine: Device and processes.
        gradient: How losses become gradients; the mean by default.

    Raises:
        UsageError: If a gradient that is clipped is to be computed in less than float32, or the device lacks the
            precision.
    """
    gradient = gradient or MeanGradient()
    precision = training.precision
    if gradient.needs_float32:
        if precision not in WHOLE:
            raise UsageError("clipped gradients need float32", found=precision, remedy="Leave --train.precision out")
        precision = "fp32"
    engine.check_precision(precision)
    network, scaler = learner.network, learner.scaler if precision == "fp16" else None
    scale = scaler.scale(torch.ones((), device=engine.device)) if scaler is not None else torch.ones(())
    rows = engine.local_slice(training.batch) if objective.shardable else slice(0, training.batch)
    expected = training.batch / (engine.ranks if objective.shardable else 1)
    weights: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
    before, begun = learner.seconds, time.monotonic()
    example: Example | None = None

    def loss(network: nn.Module, example: Example) -> Tensor:
        with engine.autocast(precision):
            value = objective.loss(network, example)
        return value if scaler is None else value.float() * scale

    while (share := engine.agree(learner.share(training))) < 1:
        if example is None or learner.step % training.replay == 0:
            step_draws = Rng(draws.seed, rows.start, training.batch).fold_in("train", learner.step)
            batch = engine.place(batches(learner.step, rows))
            example = objective.draw(batch, step_draws, network)
        for weight in weights:
            weight.grad = None
        lr = rate(training, learner.step, share)
        for group in learner.optimiser.param_groups:
            group["lr"] = lr
        with engine.float32(precision):
            value = gradient(loss, network, _split(example, training.micro_batch), expected)
        if not learner.sharded:  # there each backward pass has averaged them
            engine.average_gradients(network)
        if scaler is None:
            size = _clip(weights, training.clip)
            learner.optimiser.step()
        else:
            value = value / scale
            scaler.unscale_(learner.optimiser)
            size = _clip(weights, training.clip)
            scaler.step(learner.optimiser)  # which leaves out a step whose gradient is infinite
            scaler.update()
            scale = scaler.scale(torch.ones((), device=engine.device))
        learner.average.update()
        learner.step += 1
        learner.seconds = before + time.monotonic() - begun
        notes = {name: engine.mean(number) for name, number in objective.metrics(example).items()}
        yield StepMetrics(learner.step, engine.mean(value), lr, size, learner.seconds, learner.share(training), notes)


def _clip(weights: list[Tensor], longest: float) -> Tensor:
    """Shorten a gradient that is too long; return how long it was."""
    return whole({"size": nn.utils.clip_grad_norm_(weights, longest)})["size"]


def _split(example: Example, size: int | None) -> Iterator[Example]:
    """Cut examples into micro-batches."""
    n = num_examples(example)
    if size is None or size >= n:
        yield example
        return
    for start in range(0, n, size):
        yield tree_map(lambda leaf, start=start: leaf[start : start + size], example)


def check_finite(report: StepMetrics) -> float:
    """Return the loss as a number.

    Raises:
        InputError: If it is not finite.
    """
    value = report.loss.item()
    if not math.isfinite(value):
        raise InputError(
            f"the loss became {value} at step {report.step}; a lower rate (--train.lr {report.lr / 3:.1g}) mostly helps"
        )
    return value
