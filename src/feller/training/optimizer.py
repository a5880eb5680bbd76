"""Training configuration, optimizers, and learning-rate schedules."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, check_number

MAX_BATCH_SIZE = 10**8
"""Examples of a step, at most: the numbers of more would fill any memory."""
MAX_WARMUP_FRACTION = 0.2
"""Share of a run after which the rate is highest at the latest: else a short one would end while it still rises."""

OptimizerName = Literal["adamw", "adam", "sgd", "adafactor"]
LRSchedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
LoggerName = Literal["jsonl", "tensorboard", "wandb"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how fast to learn, and in which precision."""

    batch_size: int = 128
    """Examples per step, over all processes and micro-batches."""
    micro_batch: int | None = None
    """Examples that go through the network at once on one process; None for all."""
    steps: int | None = None
    """Training steps; if given, `minutes` does not count."""
    minutes: float | None = None
    """Minutes of training, by the clock."""
    optimizer: OptimizerName = "adamw"
    """Optimizer; weight decay is decoupled in adamw and adafactor, and a penalty in adam and sgd."""
    lr: float = 1e-3
    """Highest learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the means of gradients and of their squares; of sgd the first is the momentum, adafactor has its own."""
    weight_decay: float = 0.0
    warmup: int = 100
    """Steps until the highest rate, or a fifth of the run where that is less."""
    lr_schedule: LRSchedule = "linear"
    """After the warm-up: constant and then straight down to zero, half a cosine over the whole run, or constant."""
    lr_decay_fraction: float = 0.3
    """Last share of the run, over which a linear schedule falls to zero."""
    grad_clip_norm: float = 1.0
    """Longest gradient; longer ones are shortened."""
    ema_decay: float = 0.999
    """Decay of the running average of the weights, which sampling uses."""
    reuse_batches: int = 1
    """Steps that each set of drawn examples serves; more than one where it is costly to draw, as of samples."""
    fsdp: bool = False
    """Let each of several processes keep a part of weights, average and optimiser only, for what fits in none whole."""
    precision: Precision = "auto"
    """Of the network's arithmetic; weights stay as they are. auto is bf16 on CUDA devices that have it, else fp32."""
    gradient_checkpointing: bool = False
    """Compute the blocks of the network again on the way back instead of keeping their activations: less memory, about
    a third more time."""
    compile: bool = False
    """Compile the network, which takes a while at first; needs a C++ compiler."""
    logger: LoggerName = "jsonl"
    """Where numbers of steps go beside metrics.jsonl: a TensorBoard log in the run folder, or Weights & Biases."""

    def __post_init__(self) -> None:
        for name, kind in LITERAL_FIELDS.items():
            if getattr(self, name) not in get_args(kind):
                raise UsageError(f"one of {', '.join(get_args(kind))}", getattr(self, name), argument=name)
        check_number("batch_size", self.batch_size, ge=1, le=MAX_BATCH_SIZE)
        for name in ("micro_batch", "steps", "reuse_batches"):
            check_number(name, getattr(self, name), ge=1)
        for name in ("minutes", "lr", "grad_clip_norm"):
            check_number(name, getattr(self, name), gt=0)
        for name in ("weight_decay", "warmup"):
            check_number(name, getattr(self, name), ge=0)
        check_number("lr_decay_fraction", self.lr_decay_fraction, ge=0, le=1)
        for name, numbers in (("ema_decay", (self.ema_decay,)), ("betas", self.betas)):
            for number in numbers:
                check_number(name, number, ge=0, lt=1)

    def progress(self, step: int, seconds: float) -> float:
        """Return the share of the budget that is spent: steps if they are given, else minutes; 1 or more is all."""
        if self.steps is not None:
            return step / self.steps
        return seconds / (60 * self.minutes) if self.minutes is not None else 0.0


LITERAL_FIELDS = {"optimizer": OptimizerName, "lr_schedule": LRSchedule, "precision": Precision, "logger": LoggerName}
"""Fields that are one of some words."""


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of all weights that are not frozen; but for adafactor it moves them in one operation."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    lr, decay, (momentum, _) = config.lr, config.weight_decay, config.betas
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(weights, lr=lr, betas=config.betas, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(weights, lr=lr, betas=config.betas, weight_decay=decay, fused=True)
        case "sgd":
            return torch.optim.SGD(weights, lr=lr, momentum=momentum, weight_decay=decay, fused=True)
        case "adafactor":
            return torch.optim.Adafactor(weights, lr=lr, weight_decay=decay)


def learning_rate(config: TrainConfig, step: int, progress: float) -> float:
    """Return the learning rate of a step: warm-up times the fall of the schedule.

    Warm-up ends after its steps or after a fifth of the run, whatever comes first.
    """
    rise = min(1.0, max((step + 1) / max(config.warmup, 1), progress / MAX_WARMUP_FRACTION))
    remaining = min(max(1 - progress, 0.0), 1.0)
    match config.lr_schedule:
        case "linear":
            fall = min(1.0, remaining / config.lr_decay_fraction) if config.lr_decay_fraction else 1.0
        case "cosine":
            fall = (1 - math.cos(math.pi * remaining)) / 2
        case "constant":
            fall = 1.0
    return config.lr * rise * fall


def _state_shapes(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[str, torch.Size]:
    """Return names and shapes of what an optimizer remembers of a weight after a step."""
    one, shape = torch.Size(()), weight.shape
    match optimizer:
        case torch.optim.Adafactor() if weight.ndim > 1:
            rows, columns = torch.Size((*shape[:-1], 1)), torch.Size((*shape[:-2], 1, shape[-1]))
            return {"step": one, "row_var": rows, "col_var": columns}
        case torch.optim.Adafactor():
            return {"step": one, "variance": shape}
        case torch.optim.SGD():
            return {"momentum_buffer": shape} if optimizer.defaults["momentum"] else {}
        case _:
            return {"step": one, "exp_avg": shape, "exp_avg_sq": shape}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's memory as named tensors."""
    state = optimizer.state_dict()["state"]
    named = ((f"{number}.{name}", value) for number, entry in state.items() for name, value in entry.items())
    return {name: value for name, value in named if value is not None}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser its memory back.

    Raises:
        InputError: If the names are not those of such an optimiser.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    expected = {
        f"{number}.{field}": shape
        for number, weight in enumerate(weights)
        for field, shape in _state_shapes(optimizer, weight).items()
    }
    # Fused kernels trust these shapes: a wrong one would reach beyond the end of its memory.
    wrong = sorted(expected.keys() ^ tensors.keys()) or [
        n for n, shape in expected.items() if tensors[n].shape != shape
    ]
    if wrong or any(not value.is_floating_point() for value in tensors.values()):
        name = type(optimizer).__name__
        raise InputError(f"the saved state is not that of {name}: {len(wrong)} entries differ {wrong[:1]}")
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, field = name.split(".", 1)
        state.setdefault(int(number), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
