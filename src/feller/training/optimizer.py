"""The optimiser, and how its rate rises and falls."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError

MOST_TOGETHER = 10**8
"""Examples of a step, at most: the numbers of more would fill any memory."""
RISE = 0.2
"""Share of a run after which the rate is highest at the latest: else a short one would end while it still rises."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and how fast to learn."""

    batch: int = 128
    """Examples per step, over all processes and micro-batches."""
    micro_batch: int | None = None
    """Examples that go through the network at once on one process; None for all."""
    steps: int | None = None
    """Training steps; if given, `minutes` does not count."""
    minutes: float | None = None
    """Minutes of training, by the clock."""
    lr: float = 1e-3
    """Highest learning rate of AdamW."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    """Steps until the highest rate, or a fifth of the run where that is less."""
    decay: float = 0.3
    """Last share of the run, over which the rate falls to zero."""
    clip: float = 1.0
    """Longest gradient; longer ones are shortened."""
    average: float = 0.999
    """Decay of the running average of the weights, which sampling uses."""
    replay: int = 1
    """Steps that each set of drawn examples serves; more than one where it is costly to draw, as of samples."""
    sharded: bool = False
    """Let each of several processes keep a part of weights, average and optimiser only, for what fits in none whole."""
    compile: bool = False
    """Compile the network, which takes a while at first; needs a C++ compiler."""

    def __post_init__(self) -> None:
        checks = {
            "batch": (1 <= self.batch <= MOST_TOGETHER, f"at least 1 and at most {MOST_TOGETHER:,}"),
            "micro_batch": (self.micro_batch is None or self.micro_batch >= 1, "at least 1"),
            "steps": (self.steps is None or self.steps >= 1, "at least 1"),
            "minutes": (self.minutes is None or self.minutes > 0, "above 0"),
            "lr": (self.lr > 0, "above 0"),
            "decay": (0 <= self.decay <= 1, "from 0 to 1"),
            "clip": (self.clip > 0, "above 0"),
            "average": (0 <= self.average < 1, "from 0 to below 1"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "from 0 to below 1"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "warmup": (self.warmup >= 0, "0 or more"),
            "replay": (self.replay >= 1, "at least 1"),
        }
        for name, (right, expected) in checks.items():
            if not right:
                raise UsageError(f"{name} of the training must be {expected}, got {getattr(self, name)}")

    def share(self, step: int, seconds: float) -> float:
        """Return the share of the budget that is spent: steps if they are given, else minutes; 1 or more is all."""
        if self.steps is not None:
            return step / self.steps
        return seconds / (60 * self.minutes) if self.minutes is not None else 0.0


def make_optimiser(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return AdamW over all weights that are not frozen, which moves them in one operation."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return torch.optim.AdamW(
        weights, lr=training.lr, betas=training.betas, weight_decay=training.weight_decay, fused=True
    )


def rate(training: Training, step: int, share: float) -> float:
    """Return the learning rate of a step: warm-up, constant, then straight down to zero over the last share of the run.

    Warm-up ends after its steps or after a fifth of the run, whatever comes first.

    Args:
        training: Highest rate, warm-up and decay.
        step: Steps done before.
        share: Of the budget that is spent before, in [0, 1]; by steps or by the clock.
    """
    rise = min(1.0, max((step + 1) / max(training.warmup, 1), share / RISE))
    fall = min(1.0, max(1 - share, 0.0) / training.decay) if training.decay else 1.0
    return training.lr * rise * fall


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's memory as named tensors."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser its memory back.

    Raises:
        InputError: If the names are not those of such an optimiser.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    expected = {
        f"{number}.{field}": torch.Size(()) if field == "step" else weight.shape
        for number, weight in enumerate(weights)
        for field in ("step", "exp_avg", "exp_avg_sq")
    }
    # The fused kernel trusts these shapes: a wrong one would reach beyond the end of its memory.
    wrong = sorted(expected.keys() ^ tensors.keys()) or [
        n for n, shape in expected.items() if tensors[n].shape != shape
    ]
    if wrong or any(not value.is_floating_point() for value in tensors.values()):
        raise InputError(f"the saved state is not that of this optimiser: {len(wrong)} entries differ {wrong[:1]}")
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, field = name.split(".", 1)
        state.setdefault(int(number), {})[field] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
