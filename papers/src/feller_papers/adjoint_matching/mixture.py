"""Four modes in the plane with a linear reward; the tilted weights are known."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.control.fine_tuning.adjoint_matching import AdjointMatching
from feller.core.rng import Rng
from feller.networks.blocks.conditioning import zero_init
from feller.networks.network_config import seeded_init
from feller.paths import Affine
from feller.paths.predictions import ScorePrediction, VelocityPrediction, conversion_coefficients
from feller.paths.schedules import Linear
from feller.paths.time_distributions import linear_grid
from feller.sampling import LinearSolver, LinearStep, MemorylessEuler, Midpoint, simulate
from feller.sampling.solvers.linear_step import alpha_sigma_at
from feller.spaces import Euclidean
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import Batch, TrainingContext
from feller.training.optimizer import TrainConfig
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import Claim, mean_of, spread_of, verdict

SLOPE = torch.tensor([0.6, 0.3])
"""Gradient of the reward."""
VARIANCE, RADIUS, STEPS = 0.16, 1.2, 20
_ANGLES = torch.arange(4) * (math.pi / 2) + math.pi / 4
CENTRES = RADIUS * torch.stack([_ANGLES.cos(), _ANGLES.sin()], 1)
WEIGHTS = (CENTRES @ SLOPE).softmax(0)
"""Weights of the tilted modes, which share one variance."""
TILTED = CENTRES + VARIANCE * SLOPE
MEAN_REWARD = float((WEIGHTS[:, None] * TILTED).sum(0) @ SLOPE)


class ModesNetwork(nn.Module):
    """Exact velocity of the base model plus a learned residual."""

    nulls: dict[str, int] = {}  # noqa: RUF012 - there are no conditions

    def __init__(self, draws: Rng) -> None:
        super().__init__()
        with seeded_init(draws):
            widths = (14, 64, 64, 64)
            self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
            self.last = zero_init(nn.Linear(64, 2))

    def forward(self, x: Float[Tensor, "b 2"], t: Float[Tensor, " b"], given: Any) -> Float[Tensor, "b 2"]:
        """Return the velocity."""
        angles = t[:, None] * (math.pi * torch.arange(1, 7, dtype=t.dtype))
        h = torch.cat([x, angles.sin(), angles.cos()], 1)
        for layer in self.hidden:
            h = F.silu(layer(h))
        return base_velocity(x, t) + self.last(h)


def base_velocity(x: Float[Tensor, "b 2"], t: Float[Tensor, " b"]) -> Float[Tensor, "b 2"]:
    """Return the velocity of four modes of one weight, on straight paths."""
    time, centres = t[:, None], CENTRES.to(x)
    spread = time.square() * VARIANCE + (1 - time).square()
    away = x[:, None] - time[:, :, None] * centres
    share = (-away.square().sum(2) / (2 * spread)).softmax(1)
    slope = (time * VARIANCE - (1 - time)) / spread
    return (share[:, :, None] * (centres + slope[:, :, None] * away)).sum(1)


@dataclass(frozen=True)
class ConstantNoise(LinearSolver):
    """Euler-Maruyama with constant noise: it keeps the marginals but is not memoryless."""

    g: float = 1.0

    def linear_step(self, t: float, s: float) -> LinearStep:
        """Return the linear step."""
        on_state, on_velocity = map(
            float, conversion_coefficients(VelocityPrediction(), ScorePrediction(), alpha_sigma_at(Linear(), t))
        )
        h, pull = s - t, self.g**2 / 2
        return LinearStep(1 + h * pull * on_state, h * (1 + pull * on_velocity), h * self.g**2)


def fine_tune(solver: LinearSolver, rounds: int, batch: int, seed: int) -> ModesNetwork:
    """Return the fine-tuned network."""
    network, base = ModesNetwork(Rng(seed)), ModesNetwork(Rng(seed))
    rule = AdjointMatching(path=Affine(), space=Euclidean((2,)), steps=STEPS, step_fraction=1.0, solver=solver)
    objective = rule.build(TrainingContext(reference=base, reward=lambda x, given: x @ SLOPE))
    training = TrainConfig(
        steps=rounds,
        batch_size=batch,
        lr=2e-3,
        betas=(0.9, 0.999),
        warmup=1,
        lr_decay_fraction=1.0,
        grad_clip_norm=1e9,
        ema_decay=0.0,
    )

    def sources(step: int, rows: slice) -> Batch:
        return {"x_0": Rng(seed).stream("source", step).normal((batch, 2))[rows], "given": {}}

    learner = make_train_state(network, training)
    for _ in train(learner, objective, sources, training, rng=Rng(seed), engine=get_engine()):
        pass
    return network.eval()


def flow_samples(network: ModesNetwork, n: int, seed: int) -> Float[Tensor, "n 2"]:
    """Return samples of the flow."""
    x_0 = Rng(seed).fold_in("ends").stream("source").normal((n, 2))
    with torch.no_grad():
        return simulate(Affine().process(network, {}), x_0, linear_grid(40), Midpoint(), Rng(seed))


def mode_tv(x: Float[Tensor, "n 2"]) -> float:
    """Return the total variation between mode weights."""
    mean_nearest_distance = torch.cdist(x, TILTED).argmin(1)
    return ((torch.bincount(mean_nearest_distance, minlength=4) / len(x) - WEIGHTS).abs().sum() / 2).item()


def short(setting: Setting) -> Iterator[Claim]:
    """Return the claims of proposition 1 and theorem 1 about memoryless and constant noise."""
    found = {name: [] for name in ("memoryless", "constant")}
    rewards = []
    for seed in setting.seeds:
        for name, solver in (("memoryless", MemorylessEuler()), ("constant", ConstantNoise())):
            x = flow_samples(fine_tune(solver, setting.short_rounds, 256, seed), setting.num_points, seed)
            found[name].append(mode_tv(x))
            if name == "memoryless":
                rewards.append((x @ SLOPE).mean().item())
    yield Claim(
        "Adjoint matching with the memoryless noise samples the law tilted by the reward (theorem 1): four modes",
        "the tilted law",
        f"total variation of their weights {mean_of(found['memoryless'])} after {setting.short_rounds} rounds of 256"
        f" (untuned {mode_tv(flow_samples(ModesNetwork(Rng(0)), setting.num_points, 0)):.3g}), at most 0.08 wanted",
        spread_of(found["memoryless"]),
        verdict(max(found["memoryless"]) <= 0.08),
    )
    yield Claim(
        "With another noise it does not (section 4): the same with constant noise 1",
        "a biased law",
        f"total variation {mean_of(found['constant'])}, at least 0.09 expected",
        spread_of(found["constant"]),
        verdict(min(found["constant"]) >= 0.09),
    )
    yield Claim(
        "The mean reward is that of the tilted law",
        f"{MEAN_REWARD:.4g}",
        f"{mean_of(rewards)}, within 0.05 wanted",
        spread_of(rewards),
        verdict(all(abs(reward - MEAN_REWARD) <= 0.05 for reward in rewards)),
    )


def long(setting: Setting) -> Iterator[Claim]:
    """Return the claim about more rounds and roll-outs."""
    found = [
        mode_tv(flow_samples(fine_tune(MemorylessEuler(), setting.long_rounds, 512, seed), setting.num_points, seed))
        for seed in setting.seeds
    ]
    yield Claim(
        "More rounds come nearer to the tilted law",
        "the tilted law",
        f"total variation {mean_of(found)} after {setting.long_rounds} rounds of 512, at most 0.045 wanted",
        spread_of(found),
        verdict(max(found) <= 0.045),
    )
