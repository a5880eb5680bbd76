"""Training configuration, optimizers, and learning-rate schedules."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, check_number
from feller.core.precision import Precision
from feller.training.augmentation import Augmentation

MAX_BATCH_SIZE = 10**8
"""Largest batch size, to reject values that cannot fit into memory."""
MAX_WARMUP_FRACTION = 0.2
"""Largest fraction of a run that is used for learning-rate warm-up."""

OptimizerName = Literal["adamw", "adam", "sgd", "adafactor"]
LRSchedule = Literal["linear", "cosine", "constant"]
LoggerName = Literal["jsonl", "tensorboard", "wandb"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training configuration: budget, batch size, optimizer, learning rate and precision."""

    batch_size: int = 128
    """Examples per step, over all processes and micro-batches."""
    micro_batch: int | None = None
    """Micro-batch size per process for gradient accumulation; None for the whole batch."""
    steps: int | None = None
    """Training steps; overrides `minutes`."""
    minutes: float | None = None
    """Training time in minutes."""
    optimizer: OptimizerName = "adamw"
    """Optimizer; weight decay is decoupled for adamw and adafactor, L2 regularisation for adam and sgd."""
    lr: float = 1e-3
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam betas; for sgd, the first beta is the momentum; adafactor ignores both."""
    weight_decay: float = 0.0
    warmup: int = 100
    """Warm-up steps, at most a fifth of the run."""
    lr_schedule: LRSchedule = "linear"
    """Learning-rate schedule after warm-up: constant then linear decay to zero, cosine decay, or constant."""
    lr_decay_fraction: float = 0.3
    """Final fraction of the run in which the linear schedule decays to zero."""
    grad_clip_norm: float = 1.0
    """Gradient clipping norm: a larger gradient is scaled down to this norm."""
    ema_decay: float = 0.999
    """Decay of the EMA weights, which sampling uses."""
    keep_best: bool = False
    """Early stopping: keep the last EMA weights whose loss on held-out examples is within a standard error of the
    lowest; private fits keep the last ones."""
    reuse_batches: int = 1
    """Training steps per drawn batch; useful above 1 if drawing is expensive, as with samples of the model."""
    fsdp: bool = False
    """Shard weights, EMA and optimizer state over processes (FSDP2)."""
    precision: Precision = "auto"
    """Mixed precision (autocast); weights keep their dtype. auto: bf16 on CUDA if supported, else fp32."""
    gradient_checkpointing: bool = False
    """Gradient checkpointing: recompute activations in the backward pass; less memory, about a third more time."""
    channels_last: bool = False
    """Channels-last memory layout of 2-d convolutions, the layout of the tensor cores of GPUs; results are equal up to
    rounding."""
    compile: bool = False
    """Compile the network with torch.compile; needs a C++ compiler."""
    logger: LoggerName = "jsonl"
    """Logger in addition to metrics.jsonl: a TensorBoard log in the run folder, or Weights & Biases."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Augmentation of images; the network is told it as a condition that is zero in sampling."""

    def __post_init__(self) -> None:
        for name, literal in LITERAL_FIELDS.items():
            if getattr(self, name) not in get_args(literal):
                raise UsageError(f"one of {', '.join(get_args(literal))}", getattr(self, name), argument=name)
        check_number("batch_size", self.batch_size, ge=1, le=MAX_BATCH_SIZE)
        for name in ("micro_batch", "steps", "reuse_batches"):
            check_number(name, getattr(self, name), ge=1)
        for name in ("minutes", "lr", "grad_clip_norm"):
            check_number(name, getattr(self, name), gt=0, lt=math.inf)
        for name in ("weight_decay", "warmup"):
            check_number(name, getattr(self, name), ge=0, lt=math.inf)
        check_number("lr_decay_fraction", self.lr_decay_fraction, ge=0, le=1)
        for name, values in (("ema_decay", (self.ema_decay,)), ("betas", self.betas)):
            for value in values:
                check_number(name, value, ge=0, lt=1)

    @property
    def may_stop_early(self) -> bool:
        """True if training may stop before its budget is spent; a training of a given time is never stopped."""
        return self.keep_best and self.steps is not None

    def progress(self, step: int, seconds: float) -> float:
        """Return the spent fraction of the budget, in steps if they are set, else in minutes; 1 or more at the end."""
        if self.steps is not None:
            return step / self.steps
        return seconds / (60 * self.minutes) if self.minutes is not None else 0.0


LITERAL_FIELDS = {"optimizer": OptimizerName, "lr_schedule": LRSchedule, "precision": Precision, "logger": LoggerName}
"""Configuration fields with a fixed set of values."""


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of the trainable weights, with fused kernels except for adafactor and sharded sgd."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    lr, decay, (momentum, _) = config.lr, config.weight_decay, config.betas
    has_kernels = not any(weight.is_meta for weight in weights)  # meta tensors, which estimate memory, have none
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(weights, lr=lr, betas=config.betas, weight_decay=decay, fused=has_kernels)
        case "adam":
            return torch.optim.Adam(weights, lr=lr, betas=config.betas, weight_decay=decay, fused=has_kernels)
        case "sgd":
            # torch has no fused kernel of sgd for the shards of FSDP, which are distributed tensors.
            fused = has_kernels and not any(hasattr(weight, "full_tensor") for weight in weights)
            return torch.optim.SGD(weights, lr=lr, momentum=momentum, weight_decay=decay, fused=fused)
        case "adafactor":
            return torch.optim.Adafactor(weights, lr=lr, weight_decay=decay)


def learning_rate(config: TrainConfig, step: int, progress: float) -> float:
    """Return the learning rate of a step: the peak learning rate times warm-up factor times decay factor.

    `progress` is the fraction of the training budget spent before this step.

    Warm-up ends after `warmup` steps or a fifth of the run, whichever is earlier.
    """
    warmup = min(1.0, max((step + 1) / max(config.warmup, 1), progress / MAX_WARMUP_FRACTION))
    remaining = min(max(1 - progress, 0.0), 1.0)
    match config.lr_schedule:
        case "linear":
            decay = min(1.0, remaining / config.lr_decay_fraction) if config.lr_decay_fraction else 1.0
        case "cosine":
            decay = (1 - math.cos(math.pi * remaining)) / 2
        case "constant":
            decay = 1.0
    return config.lr * warmup * decay


def _state_shapes(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[str, torch.Size]:
    """Return the name and shape of each optimizer state tensor that a weight has after the first step."""
    scalar, shape = torch.Size(()), weight.shape
    match optimizer:
        case torch.optim.Adafactor() if weight.ndim > 1:
            rows, columns = torch.Size((*shape[:-1], 1)), torch.Size((*shape[:-2], 1, shape[-1]))
            return {"step": scalar, "row_var": rows, "col_var": columns}
        case torch.optim.Adafactor():
            return {"step": scalar, "variance": shape}
        case torch.optim.SGD():
            return {"momentum_buffer": shape} if optimizer.defaults["momentum"] else {}
        case _:
            return {"step": scalar, "exp_avg": shape, "exp_avg_sq": shape}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer state as tensors with names such as `0.exp_avg`: index of the weight, name of the entry."""
    state = optimizer.state_dict()["state"]
    tensors = ((f"{index}.{name}", value) for index, entry in state.items() for name, value in entry.items())
    return {name: value for name, value in tensors if value is not None}


def optimizer_state_bytes(network: nn.Module, config: TrainConfig) -> int:
    """Return the size of the optimizer state after the first step, in bytes, without its step counters."""
    optimizer = make_optimizer(network, config)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return sum(
        shape.numel() * weight.element_size()
        for weight in weights
        for name, shape in _state_shapes(optimizer, weight).items()
        if name != "step"
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the tensors of `optimizer_tensors`; InputError if names, shapes or dtypes do not fit the optimizer."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    expected = {
        f"{index}.{field}": shape
        for index, weight in enumerate(weights)
        for field, shape in _state_shapes(optimizer, weight).items()
    }
    # Fused kernels do not check shapes: a wrong one would access memory out of bounds.
    mismatched = sorted(expected.keys() ^ tensors.keys()) or [
        n for n, shape in expected.items() if tensors[n].shape != shape
    ]
    if mismatched or any(not value.is_floating_point() for value in tensors.values()):
        name = type(optimizer).__name__
        raise InputError(
            f"the saved state does not belong to the optimizer {name}: {len(mismatched)} entries have other names or"
            f" shapes, such as {mismatched[:1]}"
        )
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, field = name.split(".", 1)
        state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
