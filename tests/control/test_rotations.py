"""Fine-tuning and search where states are rotations: right beside finite differences, or refused."""

import pytest
import torch
from torch import Tensor, nn

from feller.control.fine_tuning.adjoint_matching import AdjointMatching
from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.control.fine_tuning.draft import DRaFT, ReFL
from feller.control.fine_tuning.policy_gradient import PolicyGradient
from feller.control.fine_tuning.raft import RAFT
from feller.control.inverse.d_flow import NoPrior, optimize_source
from feller.control.optimize.lbfgs import LBFGS
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.paths import Geodesic
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, simulate
from feller.spaces import SO3
from feller.spaces.rotations import hat, rotation
from feller.training.objective import TrainingContext
from tests.errors import refuses
from tests.oracle import F64

SPACE = SO3(())
PATH = Geodesic(SPACE)
AIM = rotation(torch.tensor([0.3, -0.8, 0.5], dtype=F64))


class Turning(nn.Module):
    """A left-invariant velocity that bends with time and state."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.4, 0.1, -0.6], dtype=F64))

    def forward(self, x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        turn = self.w * (1 + t[:, None]) + x[..., 0].sin()
        return x @ hat(turn)


def reward(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Cosine-like closeness to a rotation, with its derivative off the manifold."""
    return (x * AIM).sum((1, 2)) + (x[:, 0, 1] - x[:, 2, 2]).square()


def sources(n: int) -> Tensor:
    return SPACE.sample_base(n, Rng(3).stream("x")).double()


@pytest.mark.parametrize("kind", [AdjointMatching, PolicyGradient, DiscreteAdjoint], ids=lambda kind: kind.__name__)
def test_memoryless_methods_refuse_rotations(kind: type) -> None:
    with refuses(UsageError):
        kind(path=PATH, space=SPACE)


@pytest.mark.parametrize(
    "rule",
    [
        DRaFT(path=PATH, space=SPACE, steps=6, backprop_steps=6),
        DRaFT(path=PATH, space=SPACE, steps=6, backprop_steps=6, solver=Midpoint()),
        DRaFT(path=PATH, space=SPACE, steps=6, backprop_steps=1),
        ReFL(path=PATH, space=SPACE, steps=6),
    ],
    ids=["all", "midpoint", "last", "one-step"],
)
def test_gradient_against_finite_differences(rule: DRaFT | ReFL) -> None:
    """Central differences of 1e-5 in each weight: eight digits."""
    network = Turning()
    bound = rule.build(TrainingContext(reference=network, reward=reward))
    example = bound.draw({"x_0": sources(5)}, Rng(0), network)
    gradient = torch.autograd.grad(bound.loss(network, example).sum(), network.w)[0]
    found = torch.zeros(3, dtype=F64)
    with torch.no_grad():
        for k in range(3):
            ends = []
            for step in (1e-5, -1e-5):
                network.w[k] += step
                ends.append(bound.loss(network, example).sum())
                network.w[k] -= step
            found[k] = (ends[0] - ends[1]) / 2e-5
    torch.testing.assert_close(gradient, found, rtol=1e-7, atol=1e-7)
    assert gradient.abs().max() > 0.1


def test_reward_on_rotations() -> None:
    network, x_0 = Turning(), sources(4)
    bound = DRaFT(path=PATH, space=SPACE, steps=6).build(TrainingContext(reference=network, reward=reward))
    told = bound.draw({"x_0": x_0}, Rng(0), network)["reward"]
    finer = simulate(PATH.process(network, {}), x_0, linear_grid(600), Midpoint(SPACE), Rng(0))
    torch.testing.assert_close(finer @ finer.mT, torch.eye(3, dtype=F64).expand(4, 3, 3), rtol=0, atol=1e-10)
    assert (told - reward(finer, {})).abs().max() < 0.5


def test_raft_on_rotations() -> None:
    network = Turning()
    bound = RAFT(path=PATH, space=SPACE, steps=8, top_fraction=0.25).build(
        TrainingContext(reference=network, reward=reward)
    )
    example = bound.draw({"x_0": sources(32)}, Rng(0), network)
    x_t, target = example["x_t"], example["target"]
    torch.testing.assert_close(x_t @ x_t.mT, torch.eye(3, dtype=F64).expand(32, 3, 3), rtol=0, atol=1e-8)
    torch.testing.assert_close(SPACE.to_tangent(x_t, target), target, rtol=0, atol=1e-5)
    ends = simulate(PATH.process(network, {}), sources(32), linear_grid(8), Midpoint(SPACE), Rng(0))
    torch.testing.assert_close(example["reward"], reward(ends, {}), rtol=0, atol=1e-8)


def test_d_flow_on_rotations() -> None:
    """A flow that turns all alike: the source that ends at the aim is the aim turned back, with a trace of 3."""
    turn = torch.tensor([0.2, 0.7, -0.4], dtype=F64)

    def flow(x_0: Tensor, rows: Tensor) -> Tensor:
        return simulate(
            PATH.process(lambda x, t, given: x @ hat(turn), {}), x_0, linear_grid(4), Midpoint(SPACE), Rng(0)
        )

    found = optimize_source(
        flow, lambda end, rows: -(end * AIM).sum((1, 2)), sources(6), SPACE, minimizer=LBFGS(steps=40), prior=NoPrior()
    )
    source, end = found.source, found.end
    torch.testing.assert_close(source @ source.mT, torch.eye(3, dtype=F64).expand(6, 3, 3), rtol=0, atol=1e-8)
    torch.testing.assert_close(end, AIM.expand(6, 3, 3), rtol=0, atol=1e-4)
    torch.testing.assert_close(source, (AIM @ rotation(-turn)).expand(6, 3, 3), rtol=0, atol=1e-4)
