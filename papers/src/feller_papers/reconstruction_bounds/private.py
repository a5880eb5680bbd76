"""A network that is trained with privacy, and what its steps tell about some rows."""

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
from feller_papers.reconstruction_bounds.setting import Plan, Setting

WIDTH = 16
"""Of the small network."""


def large_network(draws: Rng) -> nn.Module:
    """Return that of the paper's program for 28 x 28 pixels: smooth, so that gradients have slopes."""
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
    """Return one for 8 x 8 pixels."""
    with seeded_init(draws):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10))


def loss(network: nn.Module, example: dict[str, Tensor]) -> Float[Tensor, " b"]:
    """Return -log of the probability of the right class."""
    return nn.functional.cross_entropy(network(example["x"]), example["label"], reduction="none")


def laid_out(part: Part, side: int) -> Float[Tensor, "n side side"]:
    """Return pictures as networks take them."""
    return part.x.float().unflatten(1, (side, side))


def trained(network: nn.Module, x: Tensor, labels: Tensor, plan: Plan, seed: int) -> Iterator[int]:
    """Train with privacy on Poisson samples; yield the number of each step before it is taken."""
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
class Recorder:
    """Finds sizes by probes, and keeps the sum of |J|^2, which a bracket multiplies in the paper."""

    whole: Float64[Tensor, " b"] | float = field(default=0.0)

    def __call__(
        self,
        loss: LossFunction,
        network: nn.Module,
        build: ExampleBuilder,
        z: Tensor,
        cut: ClipFn,
        draw: RandomStream,
        which: Tensor | None,
    ) -> GradientSensitivity:
        """Look."""
        pull = estimate_by_probe(loss, network, build, z, cut, draw, which)
        self.whole = self.whole + pull.frobenius_sq
        return pull


def bracket(rate: float, sigma: float, delta: float) -> float:
    """Return q / (q + (1 - q) e^-eps), by which the paper has information go down, with an epsilon of one step.

    It is that of normal noise whose gradient may be replaced, at a delta, which the paper takes for one of delta zero.
    """
    epsilon = math.sqrt(2 * math.log(1.25 / delta)) * 2 / sigma
    return rate / (rate + (1 - rate) * math.exp(-epsilon))


@dataclass(frozen=True, eq=False)
class Trained:
    """A private training and its account."""

    name: str
    side: int
    plan: Plan
    accuracy: float
    """On unseen pictures."""
    expense: PoissonSubsampledGaussian
    rows: Float[Tensor, "b side side"]
    """That were watched."""
    labels: Int64[Tensor, " b"]
    bounds: Float64[Tensor, " b"]
    """Least mean squared error of a pixel, of each."""
    published: Float64[Tensor, " b"]
    """The same by the paper's bracket in place of the exact law of a sampled row."""
    spread: float
    """Root mean square of a pixel about the mean picture."""
    snapshots: list[nn.Module]
    """Networks at the start of each quarter of the training."""
    seconds: float
    """Of the processor."""


def model_of(setting: Setting) -> Trained:
    """Return the training on the largest pictures that are there and that the setting has a plan for."""
    found = pictures(setting)
    if setting.large is None or found.name == "digits":
        return on_digits(setting)
    return _large(setting, setting.large)


@functools.cache
def on_digits(setting: Setting) -> Trained:
    """Return the training on the digits of the package."""
    return _watched(digits(), small_network(Rng(setting.seed)), setting.small, setting.seed)


@functools.cache
def _large(setting: Setting, plan: Plan) -> Trained:
    return _watched(pictures(setting), large_network(Rng(setting.seed)), plan, setting.seed)


def chosen(n: int, plan: Plan, seed: int) -> Int64[Tensor, " b"]:
    """Return which rows are watched."""
    return Rng(seed).stream("watched").uniform((n,), torch.float64).argsort()[: plan.watched]


def _watched(found: Pictures, network: nn.Module, plan: Plan, seed: int) -> Trained:
    begun = time.process_time()
    x, labels = laid_out(found.train, found.side), found.train.labels
    which, n = chosen(len(x), plan, seed), len(x)
    rows, its, rate, record = x[which], labels[which], plan.batch / n, Recorder()
    watch = LeakageTracker(
        rows,
        lambda network, step: lambda z: {"x": z, "label": its},
        rate=rate,
        rng=Rng(seed).fold_in("watch"),
        estimator=record,
        every=plan.every,
    )
    snapshots, steps = [], plan.steps(n)
    for step in trained(network, x, labels, plan, seed):
        if step % -(-steps // 4) == 0:
            snapshots.append(copy.deepcopy(network))
        watch.update(loss, network, plan.clip, plan.sigma * plan.clip)
    with torch.no_grad():
        right = torch.eq(network(laid_out(found.test, found.side)).argmax(1), found.test.labels).double().mean().item()
    share = bracket(rate, plan.sigma, plan.delta) * rate / (plan.sigma * plan.clip) ** 2
    told = plan.every * share * torch.as_tensor(record.whole, dtype=torch.float64) / watch.leakage.dim
    centred = found.train.x - found.train.x.mean(0)
    return Trained(
        found.name,
        found.side,
        plan,
        right,
        PoissonSubsampledGaussian("training", plan.sigma, rate, steps),
        rows,
        its,
        watch.leakage.mse_bound(),
        unbiased_mse_bound(told),
        centred.square().mean().sqrt().item(),
        snapshots,
        time.process_time() - begun,
    )
