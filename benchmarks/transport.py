"""Minibatch optimal transport: time, and how much of the gain each keeps."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torchcfm.optimal_transport import OTPlanSampler

from benchmarks.timing import Case
from feller.couplings import MinibatchTransport
from feller.draws import Draws


def cases() -> Iterator[Case]:
    for n, repeat in ((256, 5), (1024, 3), (4096, 1)):
        for d in (2, 784):
            yield _case(n, d, repeat)


def _case(n: int, d: int, repeat: int) -> Case:
    torch.manual_seed(0)
    np.random.seed(0)
    x_0 = torch.randn(n, d)
    x_1 = torch.randn(n, d) * 0.3 + torch.where(torch.rand(n, 1) < 0.5, -2.0, 2.0)
    blocks, peer = MinibatchTransport(), OTPlanSampler("exact", warn=False)
    draw = Draws(0).at("coupling")

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
