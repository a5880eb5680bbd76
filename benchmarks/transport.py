"""Minibatch transport, exact and with entropy: time, and how much of the gain each keeps."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torchcfm.optimal_transport import OTPlanSampler

from benchmarks.timing import Case
from feller.core.rng import Rng
from feller.training.couplings import MinibatchOT, SinkhornCoupling, SquaredDistance


def cases() -> Iterator[Case]:
    for n, repeat in ((256, 5), (1024, 3), (4096, 1)):
        for d in (2, 784):
            yield _exact(n, d, repeat)
    for d, epsilon in ((2, 0.05), (784, 0.02)):
        yield _entropic(256, d, epsilon)


def _ends(n: int, d: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    np.random.seed(0)
    return torch.randn(n, d), torch.randn(n, d) * 0.3 + torch.where(torch.rand(n, 1) < 0.5, -2.0, 2.0)


def _exact(n: int, d: int, repeat: int) -> Case:
    x_0, x_1 = _ends(n, d)
    blocks, peer = MinibatchOT(), OTPlanSampler("exact", warn=False)
    draw = Rng(0).stream("coupling")

    def feller() -> Tensor:
        return blocks(x_0, x_1, {}, draw)

    def note() -> str:
        costs = {
            "independent": _cost(x_0, x_1),
            "blocks of 256": _cost(feller(), x_1),
            "torchcfm (with replacement)": _cost(*peer.sample_plan(x_0, x_1)),
            "optimal": _cost(x_0[_optimal(x_0, x_1)], x_1),
        }
        lost = (costs["blocks of 256"] - costs["optimal"]) / (costs["independent"] - costs["optimal"])
        listed = ", ".join(f"{name} {cost:.4g}" for name, cost in costs.items())
        return f"mean cost: {listed}; lost share of the gain {lost:.1%}"

    contenders: dict[str, Callable[[], object]] = {
        "feller": feller,
        "torchcfm": lambda: peer.sample_plan(x_0, x_1),
    }
    return Case(f"exact transport, {n} x {d}", contenders, repeat, note=note)


def _entropic(n: int, d: int, epsilon: float) -> Case:
    """Compare at the same strength; torchcfm wants it in units of the cost, and loses the plan where it is small."""
    x_0, x_1 = _ends(n, d)
    cost = SquaredDistance()(x_0, x_1, {})
    unit, draw = cost.median().item(), Rng(0).stream("coupling")
    ours, peer = SinkhornCoupling(epsilon), OTPlanSampler("sinkhorn", reg=epsilon * unit, warn=False)
    sharp = OTPlanSampler("sinkhorn", reg=0.002 * unit, warn=False)

    def feller() -> Tensor:
        return ours(x_0, x_1, {}, draw)

    def note() -> str:
        costs = {
            "independent": _cost(x_0, x_1),
            "feller": _cost(feller(), x_1),
            "torchcfm": _cost(*peer.sample_plan(x_0, x_1)),
            "feller at 0.002": _cost(SinkhornCoupling(0.002)(x_0, x_1, {}, draw), x_1),
            "torchcfm at 0.002": _cost(*sharp.sample_plan(x_0, x_1)),
            "optimal": _cost(x_0[_optimal(x_0, x_1)], x_1),
        }
        return f"mean cost: {', '.join(f'{name} {cost:.4g}' for name, cost in costs.items())}"

    contenders: dict[str, Callable[[], object]] = {
        "feller": feller,
        "torchcfm": lambda: peer.sample_plan(x_0, x_1),
    }
    return Case(f"entropic transport, {n} x {d}, epsilon {epsilon:g} of the median cost", contenders, 5, note=note)


def _cost(x_0: Tensor, x_1: Tensor) -> float:
    return (x_0 - x_1).square().sum(1).mean().item()


def _optimal(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return the optimal permutation, by a solver with enough iterations."""
    import ot

    n = len(x_0)
    plan = ot.emd(
        np.full(n, 1 / n), np.full(n, 1 / n), torch.cdist(x_0, x_1).square().double().numpy(), numItermax=10**7
    )
    return torch.as_tensor(plan.argmax(0))
