"""DP-SGD training with leakage tracking of some rows."""

import copy
import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from feller.core.gradient import LossFunction
from feller.core.rng import RandomStream, Rng
from feller.networks.network_config import seeded_init
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.poisson_sampling import poisson_batches
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.fisher_information import unbiased_mse_bound
from feller.privacy.leakage.gradient_sensitivity import ClipFn, GradientSensitivity
from feller.privacy.leakage.leakage_tracking import LeakageTracker, estimate_by_probe
from feller.privacy.leakage.row_gradients import ExampleBuilder
from feller.privacy.noise.grid_noise import make_noise
from feller_papers.reconstruction_bounds.pictures import Part, Pictures, digits, pictures
from feller_papers.reconstruction_bounds.setting import Setting, TrainingPlan

WIDTH = 16
"""Hidden width of the small network."""


def large_network(draws: Rng) -> nn.Module:
    """Return the smooth network of the paper's code for 28 x 28 pixels."""
    with seeded_init(draws):
        return nn.Sequential(
            nn.Unflatten(1, (1, 28)),
            nn.Conv2d(1, 16, 8, stride=2, padding=3),
            nn.Tanh(),
            nn.AvgPool2d(2, stride=1),
            nn.Conv2d(16, 32, 4, stride=2),
            nn.Tanh(),
            nn.AvgPool2d(2, stride=1),
            nn.Flatten(),
            nn.Linear(512, 32),
            nn.Tanh(),
            nn.Linear(32, 10),
        )


def small_network(draws: Rng) -> nn.Module:
    """Return a network for 8 x 8 pixels."""
    with seeded_init(draws):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10))


def loss(network: nn.Module, example: dict[str, Tensor]) -> Float[Tensor, " b"]:
    """Return the cross-entropy per example."""
    return nn.functional.cross_entropy(network(example["x"]), example["label"], reduction="none")


def to_images(part: Part, side: int) -> Float[Tensor, "n side side"]:
    """Return images as network inputs."""
    return part.x.float().unflatten(1, (side, side))


def trained(network: nn.Module, x: Tensor, labels: Tensor, plan: TrainingPlan, seed: int) -> Iterator[int]:
    """Train by DP-SGD with Poisson sampling; yield the index of each step before it."""
    gradient = DPSGD(
        sigma=plan.sigma, clip=FixedClipNorm(plan.clip), noise=make_noise(seed, "reconstruction bounds", "noise")
    )
    optimiser = torch.optim.SGD(network.parameters(), plan.lr, plan.momentum)
    feed = poisson_batches({"x": x, "label": labels}, plan.batch, make_noise(seed, "reconstruction bounds", "sample"))
    for step in range(plan.steps(len(x))):
        yield step
        network.zero_grad()
        gradient(loss, network, [feed(step, slice(None))], float(plan.batch))
        optimiser.step()


@dataclass
class NormRecorder:
    """Probe estimator that accumulates |J|^2, which the paper multiplies by its amplification factor."""

    squared_norm: Float64[Tensor, " b"] | float = field(default=0.0)

    def __call__(
        self,
        loss: LossFunction,
        network: nn.Module,
        build: ExampleBuilder,
        z: Tensor,
        clip: ClipFn,
        draw: RandomStream,
        indices: Tensor | None,
    ) -> GradientSensitivity:
        """Return the sensitivity, and add its squared norm."""
        sensitivity = estimate_by_probe(loss, network, build, z, clip, draw, indices)
        self.squared_norm = self.squared_norm + sensitivity.frobenius_sq
        return sensitivity


def amplification_factor(rate: float, sigma: float, delta: float) -> float:
    """Return q / (q + (1 - q) e^-eps), the amplification factor of the paper, with the epsilon of one step.

    Epsilon is that of the Gaussian mechanism at a delta under replacement; the paper uses it as if delta were 0.
    """
    epsilon = math.sqrt(2 * math.log(1.25 / delta)) * 2 / sigma
    return rate / (rate + (1 - rate) * math.exp(-epsilon))


@dataclass(frozen=True, eq=False)
class PrivateRun:
    """Private training with tracked leakage."""

    name: str
    side: int
    plan: TrainingPlan
    accuracy: float
    """Accuracy on test images."""
    dp_event: PoissonSubsampledGaussian
    rows: Float[Tensor, "b side side"]
    """Tracked rows."""
    labels: Int64[Tensor, " b"]
    bounds: Float64[Tensor, " b"]
    """Lower bound of the mean squared pixel error per row."""
    published_bounds: Float64[Tensor, " b"]
    """The same bounds by the paper's amplification factor instead of the exact subsampled law."""
    spread: float
    """Root mean square deviation of pixels from the mean image."""
    snapshots: list[nn.Module]
    """Networks at the start of each training quarter."""
    seconds: float
    """CPU-seconds."""


def private_run(setting: Setting) -> PrivateRun:
    """Return the run on the largest available images that the setting has a plan for."""
    data = pictures(setting)
    if setting.large is None or data.name == "digits":
        return digits_run(setting)
    return _large(setting, setting.large)


@functools.cache
def digits_run(setting: Setting) -> PrivateRun:
    """Return the run on the digits of the package."""
    return _watched(digits(), small_network(Rng(setting.seed)), setting.small, setting.seed)


@functools.cache
def _large(setting: Setting, plan: TrainingPlan) -> PrivateRun:
    return _watched(pictures(setting), large_network(Rng(setting.seed)), plan, setting.seed)


def tracked_rows(n: int, plan: TrainingPlan, seed: int) -> Int64[Tensor, " b"]:
    """Return the indices of tracked rows."""
    return Rng(seed).stream("watched").uniform((n,), torch.float64).argsort()[: plan.num_tracked]


def _watched(data: Pictures, network: nn.Module, plan: TrainingPlan, seed: int) -> PrivateRun:
    start = time.process_time()
    x, labels = to_images(data.train, data.side), data.train.labels
    indices, n = tracked_rows(len(x), plan, seed), len(x)
    rows, row_labels, rate, recorder = x[indices], labels[indices], plan.batch / n, NormRecorder()
    tracker = LeakageTracker(
        rows,
        lambda network, step: lambda z: {"x": z, "label": row_labels},
        rate=rate,
        rng=Rng(seed).fold_in("watch"),
        estimator=recorder,
        every=plan.track_every,
    )
    snapshots, steps = [], plan.steps(n)
    for step in trained(network, x, labels, plan, seed):
        if step % -(-steps // 4) == 0:
            snapshots.append(copy.deepcopy(network))
        tracker.update(loss, network, plan.clip, plan.sigma * plan.clip)
    with torch.no_grad():
        accuracy_ = (
            torch.eq(network(to_images(data.test, data.side)).argmax(1), data.test.labels).double().mean().item()
        )
    factor = amplification_factor(rate, plan.sigma, plan.delta) * rate / (plan.sigma * plan.clip) ** 2
    published_eta2 = (
        plan.track_every * factor * torch.as_tensor(recorder.squared_norm, dtype=torch.float64) / tracker.leakage.dim
    )
    centred_x = data.train.x - data.train.x.mean(0)
    return PrivateRun(
        data.name,
        data.side,
        plan,
        accuracy_,
        PoissonSubsampledGaussian("training", plan.sigma, rate, steps),
        rows,
        row_labels,
        tracker.leakage.mse_bound(),
        unbiased_mse_bound(published_eta2),
        centred_x.square().mean().sqrt().item(),
        snapshots,
        time.process_time() - start,
    )
