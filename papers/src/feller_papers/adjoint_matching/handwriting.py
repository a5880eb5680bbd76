"""Flow model of 8 x 8 digits, reward and judge classifiers, and sample metrics.

States are 64 pixels in [-1, 1]; distances are Euclidean.
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
TRAINING = TrainConfig(batch_size=256, lr=1e-3, lr_decay_fraction=0.5)
"""Training of the model; the steps are set separately."""
CLASSIFIER_STEPS = 2000
"""Training steps of classifiers."""
CLASSIFIER_TRAINING = TrainConfig(batch_size=128, lr=1e-3, warmup=0, lr_decay_fraction=1.0, ema_decay=0.0)
TUNING = TrainConfig(betas=(0.9, 0.999), warmup=10, lr_decay_fraction=0.5, grad_clip_norm=1e9)
"""Fine-tuning by adjoint matching, without gradient clipping, since large gradients separate the modes."""
NOISE = 0.3
"""Noise in classifier training, for useful gradients off the data."""
BATCH_SIZE = 2000


@dataclass(frozen=True, eq=False)
class DigitModel:
    """Flow model and its classifiers."""

    base: nn.Module
    real: Float[Tensor, "n 64"]
    """Training images."""
    reward_classifier: nn.Module
    """Classifier of the reward."""
    judge: nn.Module
    """Independent classifier of the metrics."""


@functools.cache
def digit_model(steps: int) -> DigitModel:
    """Return the trained model and its classifiers."""
    data = read("example:digits")
    examples = {"x_1": data.modality.encode(data.values).flatten(1), "given": data.given}
    base = NETWORK.build((PIXELS,), {"label": CLASSES}, Rng(0))
    train_network(base, FlowMatching(Affine(), SPACE, cond_dropout=0.3), examples, TRAINING, steps, 0)
    classifiers = []
    for seed, width in ((1, 128), (2, 192)):
        with seeded_init(Rng(seed)):
            widths = (nn.Linear(PIXELS, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
            classifier = nn.Sequential(*widths, nn.Linear(width, CLASSES))
        classifiers.append(
            train_network(classifier, NoisyClassification(), examples, CLASSIFIER_TRAINING, CLASSIFIER_STEPS, seed)
        )
    return DigitModel(base, examples["x_1"], *classifiers)


def train_network(
    network: nn.Module, objective: Objective, examples: Batch, training: TrainConfig, steps: int, seed: int
) -> nn.Module:
    """Return a trained network with frozen parameters."""
    training = replace(training, steps=steps)
    train_state, feed = make_train_state(network, training), shuffled_loader(examples, training.batch_size, Rng(seed))
    for _ in train(train_state, objective, feed, training, rng=Rng(seed), engine=get_engine()):
        pass
    train_state.ema.copy_to(network)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class NoisyClassification(ClassificationObjective):
    """Classification of noisy images."""

    label_smoothing = 0.0

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return a batch of noisy images."""
        x = batch["x_1"]
        return {"x": x + NOISE * rng.stream("noise").normal(x.shape), "answer": batch["given"]["label"]}


Labels = Callable[[int, Rng], Int64[Tensor, " n"]]
"""(n, rng) -> label of each sample; `CLASSES` means unconditional."""


def unconditional(n: int, rng: Rng) -> Int64[Tensor, " n"]:
    """Return the unconditional label."""
    return torch.full((n,), CLASSES)


def each_class(n: int, rng: Rng) -> Int64[Tensor, " n"]:
    """Return all classes in turn."""
    return torch.arange(n) % CLASSES


@dataclass(frozen=True)
class Sampler:
    """Solver and number of steps."""

    solver: Solver = field(default_factory=Midpoint)
    steps: int = 20


FLOW = Sampler()


@torch.no_grad()
def draw_samples(
    network: nn.Module, labels: Labels, n: int, seed: int, sampler: Sampler = FLOW
) -> tuple[Float[Tensor, "n 64"], Int64[Tensor, " n"]]:
    """Return samples and their labels."""
    rng = Rng(seed).fold_in("samples")
    label, ends = labels(n, rng), []
    for start in range(0, n, BATCH_SIZE):
        given = {"label": label[start : start + BATCH_SIZE]}
        batch_rng = Rng(rng.seed, start, n)
        x_0 = batch_rng.stream("source").normal((len(given["label"]), PIXELS))
        process = Affine().process(network, given)
        ends.append(simulate(process, x_0, linear_grid(sampler.steps), sampler.solver, batch_rng))
    return torch.cat(ends), label


def fine_tune(
    model: DigitModel, objective: FineTuning, reward: RewardFunction, labels: Labels, training: TrainConfig, seed: int
) -> nn.Module:
    """Return the fine-tuned network, with EMA weights."""
    network = NETWORK.build((PIXELS,), {"label": CLASSES}, Rng(0))
    network.load_state_dict(model.base.state_dict())

    def sources(step: int, rows: slice) -> Batch:
        rng = Rng(seed).fold_in("sources", step)
        x_0 = rng.stream("source").normal((training.batch_size, PIXELS))
        return {"x_0": x_0[rows], "given": {"label": labels(training.batch_size, rng)[rows]}}

    train_state = make_train_state(network, training)
    for _ in train(
        train_state,
        objective.build(TrainingContext(reference=model.base, reward=reward)),
        sources,
        training,
        rng=Rng(seed),
        engine=get_engine(),
    ):
        pass
    train_state.ema.copy_to(network)
    return network.eval()


@dataclass(frozen=True)
class TuningBudget:
    """Budget and hyperparameters of adjoint matching."""

    rounds: int
    batch: int = 128
    steps: int = 20
    """Steps per roll-out."""
    adjoint: Adjoint = field(default_factory=LeanAdjoint)
    lr: float = 4e-4
    average: float = 0.98
    share: float = 1.0
    """Fraction of the steps in the loss."""
    replay: int = 1

    def __str__(self) -> str:
        kind = type(self.adjoint).__name__.lower()
        more = f", each set for {self.replay}" if self.replay > 1 else ""
        return (
            f"{self.rounds} rounds of {self.batch} roll-outs of {self.steps} steps at {self.lr:g}, {kind} adjoint{more}"
        )

    def tune(
        self, model: DigitModel, reward: RewardFunction, reward_scale: float, labels: Labels, seed: int
    ) -> nn.Module:
        """Return the fine-tuned network."""
        objective = AdjointMatching(
            path=Affine(),
            space=SPACE,
            reward_scale=reward_scale,
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
        return fine_tune(model, objective, reward, labels, training, seed)


def mean_nearest_distance(x: Float[Tensor, "n d"], real: Float[Tensor, "m d"]) -> float:
    """Return the mean distance to the nearest real image."""
    return torch.cdist(x, real).amin(1).mean().item()


def pairwise_distance(x: Float[Tensor, "n d"]) -> float:
    """Return the mean pairwise distance."""
    n = len(x)
    return torch.cdist(x, x).sum().item() / (n * (n - 1))


def resample(weights: Float[Tensor, " m"], n: int, seed: int) -> Int64[Tensor, " n"]:
    """Return indices by systematic resampling with weights."""
    start = Rng(seed).stream("start").uniform((1,), torch.float64)
    places = (torch.arange(n, dtype=torch.float64) + start) / n
    edges = (weights.double() / weights.double().sum()).cumsum(0)
    return torch.searchsorted(edges, places).clamp(max=len(weights) - 1)
