"""Claims about turning digits into others on ways that an autoencoder sees between two ends."""

import functools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.costs import Scaled, StateCost
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.population import Population
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.solution import solve_bridge
from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.loading.dataset_reader import read
from feller.networks.mlp import MLP
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Batch, Example, Objective
from feller.training.optimizer import TrainConfig
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.gsbm.autoencoder import Autoencoder, Coder
from feller_papers.gsbm.latent import NearLatentPath
from feller_papers.gsbm.setting import Setting

FROM, TO = 4, 9
"""Classes of the two crowds, which look alike."""
NOISE, CODE_NOISE = 0.5, 0.3
"""Of the bridge, where black is -1 and white 1, as in the paper; of codes in training."""
STATE_WEIGHT, CONTROL_WEIGHT = 5.0, 0.2
"""Of the paper: 5 V + 0.2 mean_D u^2 / (2 noise^2)."""
TRAINING = TrainConfig(batch_size=128, lr=2e-3, lr_decay_fraction=1.0, ema_decay=0.99)
CONTROL = ConditionalControl(mean_knots=8, scale_knots=8, steps=100, times=30, num_samples=2)
HOW = BridgeSolverConfig(architecture=MLP(width=256, depth=3), control=CONTROL)
FEW, BETWEEN, MIDDLE = 256, 30, 0.5
"""Pairs whose paths are judged, at so many times; when a path is in the middle."""


@dataclass(frozen=True)
class Autoencoding(Objective):
    """Read a picture from its code, which is moved a little."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Draw the noise of the codes."""
        x = batch["x_1"]
        return {"x": x, "noise": CODE_NOISE * rng.stream("noise").normal((len(x), network.reads[0].in_features))}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the mean square of what is lost."""
        return (network(example["x"], example["noise"]) - example["x"]).flatten(1).square().mean(1)


@functools.cache
def coder(steps: int, seed: int) -> Coder:
    """Return an autoencoder of all digits that are learned from."""
    data = read("example:digits")
    network = Autoencoder().build((1, 8, 8), Rng(seed))
    learner = make_train_state(network, TRAINING)
    training, feed = replace(TRAINING, steps=steps), batch_loader(data, TRAINING.batch_size, Rng(seed))
    for _ in train(learner, Autoencoding(), feed, training, rng=Rng(seed), engine=get_engine()):
        pass
    learner.ema.copy_to(network)
    return network.requires_grad_(False)


@functools.cache
def members(which: int, part: str = "") -> Float[Tensor, "n 64"]:
    """Return the digits of a class, from -1 to 1."""
    data = read(f"example:digits{part}")
    return data.modality.encode(data.values[data.given["label"] == which]).flatten(1)


def problem(setting: Setting, seed: int) -> BridgeProblem:
    """Return what is bridged: pictures as rows, at the paper's price for as many entries."""
    network, ends = coder(setting.coder, seed), (members(FROM), members(TO))
    factor = STATE_WEIGHT * NOISE**2 * ends[0].shape[1] / CONTROL_WEIGHT
    return BridgeProblem(
        ((Population(ends[0]), Population(ends[1])),), NOISE, factor * NearLatentPath(network.encode, network.decode)
    )


@dataclass(frozen=True)
class Look:
    """How pictures look."""

    off: float
    """From the nearest digit that is learned from: root mean square of a pixel."""
    sharp: float
    """Mean absolute difference of neighbouring pixels."""

    @staticmethod
    def of(x: Float[Tensor, "n 64"]) -> "Look":
        """Look at some."""
        rows = x.unflatten(1, (8, 8))
        return Look(from_real(x), statistics.fmean(rows.diff(dim=axis).abs().mean().item() for axis in (1, 2)))


@dataclass(frozen=True)
class Turned:
    """What paths between digits are like."""

    straight: float
    """V of Brownian bridges, in half the range of grey."""
    pinned: float
    """V of pinned paths between the same digits."""
    blends: "Look"
    """Of straight ways, in the middle."""
    middles: "Look"
    """Of the pinned paths' means, likewise."""
    reals: "Look"
    """Of digits that were not learned from."""
    seconds: float


@functools.cache
def turned(setting: Setting, seed: int) -> Turned:
    """Find the paths of some pairs."""
    posed, draws = problem(setting, seed), Rng(seed).fold_in("pinned")
    x_0, x_1 = (one(FEW, draws.fold_in(end)) for end, one in enumerate(posed.populations[0]))
    straight = GaussianPaths.brownian_bridges(x_0, x_1, NOISE, CONTROL.mean_knots, CONTROL.scale_knots)
    begun = time.process_time()
    paths, _ = replace(CONTROL, steps=setting.digits.control).solve(straight, posed.cost, draws)
    seconds = time.process_time() - begun
    fresh = torch.cat([members(which, "/test") for which in (FROM, TO)])
    values = [_along(posed, one, draws) for one in (straight, paths)]
    blends, middles = (Look.of(one.grid(torch.tensor([MIDDLE])).mean[:, 0]) for one in (straight, paths))
    return Turned(values[0], values[1], blends, middles, Look.of(fresh), seconds)


def _along(posed: BridgeProblem, paths: GaussianPaths, draws: Rng) -> float:
    """Return the mean of V over paths and time."""
    t = (torch.arange(BETWEEN) + 0.5) / BETWEEN
    moments = paths.grid(t)
    z = draws.stream("judge").normal(tuple(moments.mean.shape))
    x = (moments.mean + moments.std[..., None] * z).movedim(1, 0)
    return near_latent(posed, paths.means[:, 0], paths.means[:, -1])(x, t[:, None]).mean().item()


def near_latent(posed: BridgeProblem, x_0: Tensor, x_1: Tensor) -> StateCost:
    """Return V of some pairs without its price."""
    return posed.cost.cost.bind_pairs(x_0, x_1) if isinstance(posed.cost, Scaled) else posed.cost.bind_pairs(x_0, x_1)


def from_real(x: Float[Tensor, "n 64"]) -> float:
    """Return how far pictures are from the nearest digit of any class that is learned from."""
    data = read("example:digits")
    real = data.modality.encode(data.values).flatten(1)
    return (torch.cdist(x, real).amin(1).square().mean() / real.shape[1]).sqrt().item()


def _between_same_ends(setting: Setting) -> Iterator[Claim]:
    """Pinned paths between the same ends."""
    rows = [turned(setting, seed) for seed in setting.seeds]
    falls = [1 - row.pinned / row.straight for row in rows]
    sharper = all(row.middles.sharp > row.blends.sharp and row.middles.off < row.blends.off for row in rows)
    yield Claim(
        f"Digits {FROM} to {TO}: paths stay nearer to what an autoencoder sees between two ends than Brownian bridges",
        "cats to dogs, 64 x 64: FID 12.4 with the state cost, 14.2 without (second-hand)",
        f"the state cost is lower by {_percent(falls)} between the same ends: {_mean(rows, 'pinned')} for"
        f" {_mean(rows, 'straight')}, mean absolute difference with black -1 and white 1. In the middle, pictures are"
        f" {_looks(rows, 'middles')}; straight blends {_looks(rows, 'blends')}; digits that were not learned from"
        f" {_looks(rows, 'reals')}: mean difference of neighbouring pixels, and distance to the nearest real digit as"
        f" root mean square of a pixel. {FEW} pairs, {setting.digits.control} steps, {_mean(rows, 'seconds')}"
        " CPU-seconds. Wanted: lower by 30 %, and middles that are sharper and nearer to real ones than blends",
        f"{spread_of(falls)}, share",
        verdict(min(falls) >= 0.3 and sharper),
    )


@dataclass(frozen=True)
class Learned:
    """What a learned bridge does with digits that it has not seen."""

    state: float
    """V along its trajectories, with the ends that they reached."""
    straight: float
    """V of Brownian bridges between the same ends."""
    looks: float
    """Share of the reached ends whose nearest real digit is what they should be."""
    real: float
    """Share of real digits."""
    reached: float
    """How far an end is from the nearest real digit: root mean square of a pixel."""
    seconds: float


@functools.cache
def learned(setting: Setting, seed: int) -> Learned:
    """Learn a bridge, and turn unseen digits."""
    posed, begun = problem(setting, seed), time.process_time()
    found = solve_bridge(posed, setting.digits.of(HOW), seed=seed)
    seconds = time.process_time() - begun
    begin = members(FROM, "/test")
    walked = found.transport(begin, seed)
    ends = walked.states[:, -1]
    t = torch.tensor(walked.times)
    state = near_latent(posed, begin, ends)(walked.states.movedim(1, 0), t[:, None]).mean(1)
    straight = _along(posed, GaussianPaths.brownian_bridges(begin, ends, NOISE, 2, 2), Rng(seed))
    looks, real = (share_of(x) for x in (ends, members(TO, "/test")))
    return Learned(torch.trapezoid(state, t).item(), straight, looks, real, from_real(ends), seconds)


def share_of(x: Float[Tensor, "n 64"]) -> float:
    """Return the share of pictures whose nearest digit, of all that are learned from, is what they should become."""
    data = read("example:digits")
    nearest = torch.cdist(x, data.modality.encode(data.values).flatten(1)).argmin(1)
    return (data.given["label"][nearest] == TO).double().mean().item()


def _of_unseen(setting: Setting) -> Iterator[Claim]:
    """The whole alternation."""
    rows = [learned(setting, seed) for seed in setting.seeds]
    falls = [1 - row.state / row.straight for row in rows]
    effort = setting.digits
    yield Claim(
        f"Digits {FROM} to {TO}: learned trajectories turn digits that were not learned from, near latent paths",
        "cats to dogs, 64 x 64: FID 12.4 with the state cost, 14.2 without (second-hand)",
        f"state cost {_mean(rows, 'state')}, of Brownian bridges between the same ends {_mean(rows, 'straight')};"
        f" the nearest real digit is a {TO} for {_percent([row.looks for row in rows])} of the ends, for real ones"
        f" {_percent([row.real for row in rows])}; ends are {_mean(rows, 'reached')} from it."
        f" {effort.rounds} rounds of {effort.pairs} pairs, {_mean(rows, 'seconds')} CPU-seconds. Wanted: a state cost"
        " lower by 30 %, and 80 % of the ends right",
        f"{spread_of(falls)}, share",
        verdict(min(falls) >= 0.3 and min(row.looks for row in rows) >= 0.8),
    )


def latent(setting: Setting) -> Iterator[Claim]:
    """Pinned paths, and trajectories that were learned."""
    yield from _between_same_ends(setting)
    yield from _of_unseen(setting)


def _looks(rows: Sequence[Turned], which: str) -> str:
    seen = [getattr(row, which) for row in rows]
    return f"{mean_of([look.sharp for look in seen], 3)} sharp and {mean_of([look.off for look in seen], 3)} off"


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(shares):.0f} %"


def _mean(rows: Sequence[Turned] | Sequence[Learned], name: str) -> str:
    return mean_of([getattr(row, name) for row in rows], 3)
