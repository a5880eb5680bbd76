"""Draws memoryless.png: one mixture on the line tuned with the memoryless noise, and with a constant one."""

import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from feller import Affine, Euclidean, Midpoint, Rng, linear_grid
from feller.control.fine_tuning.adjoint_matching import AdjointMatching, LandingAdjoint
from feller.networks.blocks.conditioning import zero_init
from feller.networks.network_config import seeded_init
from feller.sampling import MemorylessEuler, simulate
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import TrainingContext
from feller.training.optimizer import TrainConfig
from feller_papers.adjoint_matching.mixture import ConstantNoise

CENTRES, VARIANCE, SLOPE = torch.tensor([-1.5, 1.5]), 0.25, 0.5
ROUNDS, BATCH = 800, 512
N = 20_000


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """The exact flow to half N(-1.5, 1/4) and half N(1.5, 1/4), on straight paths."""
    t = t[:, None]
    spread = t**2 * VARIANCE + (1 - t) ** 2
    away = x - t * CENTRES
    share = (-(away**2) / (2 * spread)).softmax(1)
    return (share * (CENTRES + (t * VARIANCE - (1 - t)) / spread * away)).sum(1, keepdim=True)


class Changed(nn.Module):
    """That flow, and a change that is learned."""

    def __init__(self) -> None:
        super().__init__()
        with seeded_init(Rng(0)):
            hidden = [part for a in (13, 64, 64) for part in (nn.Linear(a, 64), nn.SiLU())]
            self.change = nn.Sequential(*hidden, zero_init(nn.Linear(64, 1)))

    def forward(self, x: Tensor, t: Tensor, given: object) -> Tensor:
        """Return the velocity."""
        angles = t[:, None] * torch.arange(1, 7) * torch.pi
        return velocity(x, t) + self.change(torch.cat([x, angles.sin(), angles.cos()], 1))


def tuned(solver: object) -> Tensor:
    """Return ends of the flow that was tuned to the reward x / 2."""
    rule = AdjointMatching(
        path=Affine(), space=Euclidean((1,)), steps=40, step_fraction=1.0, solver=solver, adjoint=LandingAdjoint()
    )
    training = TrainConfig(
        steps=ROUNDS, batch_size=BATCH, lr=2e-3, warmup=1, lr_decay_fraction=1.0, grad_clip_norm=1e9, ema_decay=0.0
    )
    learner = make_train_state(Changed(), training)
    objective = rule.build(TrainingContext(reference=Changed(), reward=lambda x, given: SLOPE * x[:, 0]))

    def sources(step: int, rows: slice) -> dict[str, object]:
        return {"x_0": Rng(0).stream("source", step).normal((BATCH, 1))[rows], "given": {}}

    for _ in train(learner, objective, sources, training, rng=Rng(0), engine=get_engine()):
        pass
    x_0 = Rng(1).stream("source").normal((N, 1))
    with torch.no_grad():
        return simulate(Affine().process(learner.network, {}), x_0, linear_grid(40), Midpoint(), Rng(0))[:, 0]


def density(x: Tensor, weights: Tensor, centres: Tensor) -> Tensor:
    """Return that of a mixture."""
    normal = (-((x[:, None] - centres) ** 2) / (2 * VARIANCE)).exp() / (2 * torch.pi * VARIANCE) ** 0.5
    return (weights * normal).sum(1)


def main() -> None:
    """Tune twice, and draw."""
    x = torch.linspace(-4, 4.5, 400)
    base = density(x, torch.tensor([0.5, 0.5]), CENTRES)
    aim = density(x, (SLOPE * CENTRES).softmax(0), CENTRES + VARIANCE * SLOPE)
    aimed = float((SLOPE * CENTRES).softmax(0)[1])
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    for axis, (name, solver) in zip(
        axes, (("memoryless noise", MemorylessEuler()), ("constant noise 1", ConstantNoise())), strict=True
    ):
        found = tuned(solver)
        share = (found > 0).double().mean().item()
        print(f"{name}: P(x > 0) = {share:.4f}, mean {found.mean().item():.4f}")
        axis.hist(found.numpy(), bins=120, range=(-4, 4.5), density=True, color="tab:blue", alpha=0.5, label="tuned")
        axis.plot(x, base, color="grey", linestyle=":", label="base")
        axis.plot(x, aim, color="black", label="base times exp(x / 2)")
        axis.set_title(f"{name}: P(x > 0) = {share:.3f}, aimed at {aimed:.3f}", fontsize=10)
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(pathlib.Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
