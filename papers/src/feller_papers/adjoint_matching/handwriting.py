"""A model of 8 x 8 digits, who rewards and who judges its samples, and what is measured of them.

States are pixels in [-1, 1], so that distances are those of 64 such numbers.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from feller.control.fine_tuning.adjoint_matching import Adjoint, AdjointMatching, LeanAdjoint
from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.control.rewards.reward import RewardFunction
from feller.core.rng import Rng
from feller.data.batches import shuffled_loader
from feller.data.loading.dataset_reader import read
from feller.evaluation.judge import ClassificationObjective
from feller.networks.mlp import MLP
from feller.networks.network_config import seeded_init
from feller.paths import Affine
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, Solver, simulate
from feller.spaces import Euclidean
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Batch, Example, FlowMatching, Objective, TrainingContext
from feller.training.optimizer import TrainConfig

CLASSES, PIXELS = 10, 64
SPACE = Euclidean((PIXELS,))
NETWORK = MLP(width=384, depth=3)
LEARNING = TrainConfig(batch_size=256, lr=1e-3, lr_decay_fraction=0.5)
"""Of the model, but for its steps."""
CLASSIFIED = 2000
"""Training steps of classifiers."""
CLASSIFYING = TrainConfig(batch_size=128, lr=1e-3, warmup=0, lr_decay_fraction=1.0, ema_decay=0.0)
TUNING = TrainConfig(betas=(0.9, 0.999), warmup=10, lr_decay_fraction=0.5, grad_clip_norm=1e9)
"""By adjoint matching: long gradients are what tells modes apart, so none is shortened."""
NOISE = 0.3
"""That classifiers see in training, so that their gradients mean something beside the data too."""
AT_ONCE = 2000


@dataclass(frozen=True, eq=False)
class Handwriting:
    """A model, and who looks at its samples."""

    base: nn.Module
    real: Float[Tensor, "n 64"]
    """What it learned from."""
    rewards: nn.Module
    """A classifier that rewards ask."""
    judge: nn.Module
    """Another one, that measures ask."""


@functools.cache
def handwriting(steps: int) -> Handwriting:
    """Return the model after some steps of training, and its classifiers."""
    data = read("example:digits")
    examples = {"x_1": data.modality.encode(data.values).flatten(1), "given": data.given}
    base = NETWORK.build((PIXELS,), {"label": CLASSES}, Rng(0))
    learned(base, FlowMatching(Affine(), SPACE, cond_dropout=0.3), examples, LEARNING, steps, 0)
    judges = []
    for seed, width in ((1, 128), (2, 192)):
        with seeded_init(Rng(seed)):
            widths = (nn.Linear(PIXELS, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
            judge = nn.Sequential(*widths, nn.Linear(width, CLASSES))
        judges.append(learned(judge, Noisy(), examples, CLASSIFYING, CLASSIFIED, seed))
    return Handwriting(base, examples["x_1"], *judges)


def learned(
    network: nn.Module, objective: Objective, examples: Batch, training: TrainConfig, steps: int, seed: int
) -> nn.Module:
    """Train a network, which stays as it is from then on."""
    training = replace(training, steps=steps)
    learner, feed = make_train_state(network, training), shuffled_loader(examples, training.batch_size, Rng(seed))
    for _ in train(learner, objective, feed, training, rng=Rng(seed), engine=get_engine()):
        pass
    learner.ema.copy_to(network)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Noisy(ClassificationObjective):
    """Tell the class of pictures under noise."""

    label_smoothing = 0.0

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Draw the noise."""
        x = batch["x_1"]
        return {"x": x + NOISE * rng.stream("noise").normal(x.shape), "answer": batch["given"]["label"]}


Labels = Callable[[int, Rng], Int64[Tensor, " n"]]
"""(n, draws) -> the class that each sample is asked for; the number after the last: any."""


def any_class(n: int, draws: Rng) -> Int64[Tensor, " n"]:
    """Ask for nothing."""
    return torch.full((n,), CLASSES)


def each_class(n: int, draws: Rng) -> Int64[Tensor, " n"]:
    """Ask for all classes alike, in turn."""
    return torch.arange(n) % CLASSES


@dataclass(frozen=True)
class Way:
    """How samples are drawn."""

    solver: Solver = field(default_factory=Midpoint)
    steps: int = 20


FLOW = Way()


@torch.no_grad()
def drawn(
    network: nn.Module, labels: Labels, n: int, seed: int, way: Way = FLOW
) -> tuple[Float[Tensor, "n 64"], Int64[Tensor, " n"]]:
    """Return samples and the labels that were asked for."""
    draws = Rng(seed).fold_in("samples")
    label, ends = labels(n, draws), []
    for start in range(0, n, AT_ONCE):
        asked = {"label": label[start : start + AT_ONCE]}
        here = Rng(draws.seed, start, n)
        x_0 = here.stream("source").normal((len(asked["label"]), PIXELS))
        process = Affine().process(network, asked)
        ends.append(simulate(process, x_0, linear_grid(way.steps), way.solver, here))
    return torch.cat(ends), label


def tuned(
    about: Handwriting, rule: FineTuning, reward: RewardFunction, labels: Labels, training: TrainConfig, seed: int
) -> nn.Module:
    """Return the model after tuning, averaged."""
    network = NETWORK.build((PIXELS,), {"label": CLASSES}, Rng(0))
    network.load_state_dict(about.base.state_dict())

    def sources(step: int, rows: slice) -> Batch:
        draws = Rng(seed).fold_in("sources", step)
        x_0 = draws.stream("source").normal((training.batch_size, PIXELS))
        return {"x_0": x_0[rows], "given": {"label": labels(training.batch_size, draws)[rows]}}

    learner = make_train_state(network, training)
    for _ in train(
        learner,
        rule.build(TrainingContext(reference=about.base, reward=reward)),
        sources,
        training,
        rng=Rng(seed),
        engine=get_engine(),
    ):
        pass
    learner.ema.copy_to(network)
    return network.eval()


@dataclass(frozen=True)
class Effort:
    """What is spent on adjoint matching, and how."""

    rounds: int
    batch: int = 128
    steps: int = 20
    """Of a roll-out."""
    adjoint: Adjoint = field(default_factory=LeanAdjoint)
    lr: float = 4e-4
    average: float = 0.98
    share: float = 1.0
    """Of the steps, those that the loss looks at."""
    replay: int = 1

    def __str__(self) -> str:
        kind = type(self.adjoint).__name__.lower()
        more = f", each set for {self.replay}" if self.replay > 1 else ""
        return (
            f"{self.rounds} rounds of {self.batch} roll-outs of {self.steps} steps at {self.lr:g}, {kind} adjoint{more}"
        )

    def tune(self, about: Handwriting, reward: RewardFunction, strength: float, labels: Labels, seed: int) -> nn.Module:
        """Return the model after tuning."""
        rule = AdjointMatching(
            path=Affine(),
            space=SPACE,
            reward_scale=strength,
            steps=self.steps,
            step_fraction=self.share,
            adjoint=self.adjoint,
        )
        training = replace(
            TUNING,
            steps=self.rounds,
            batch_size=self.batch,
            lr=self.lr,
            ema_decay=self.average,
            reuse_batches=self.replay,
        )
        return tuned(about, rule, reward, labels, training, seed)


def nearest(x: Float[Tensor, "n d"], real: Float[Tensor, "m d"]) -> float:
    """Return the mean distance to the nearest real picture."""
    return torch.cdist(x, real).amin(1).mean().item()


def apart(x: Float[Tensor, "n d"]) -> float:
    """Return the mean distance of two pictures."""
    n = len(x)
    return torch.cdist(x, x).sum().item() / (n * (n - 1))


def chosen(weights: Float[Tensor, " m"], n: int, seed: int) -> Int64[Tensor, " n"]:
    """Return numbers of samples, in proportion to their weights: evenly spaced, so that few come twice."""
    start = Rng(seed).stream("start").uniform((1,), torch.float64)
    places = (torch.arange(n, dtype=torch.float64) + start) / n
    edges = (weights.double() / weights.double().sum()).cumsum(0)
    return torch.searchsorted(edges, places).clamp(max=len(weights) - 1)
