"""Tokens: sampling by a network that costs nothing, so that the time is the solver's own, and the loss of rates."""

from collections.abc import Callable, Iterator

import torch
from flow_matching.loss import MixturePathGeneralizedKL
from flow_matching.path import MixtureDiscreteProbPath
from flow_matching.path.scheduler import PolynomialConvexScheduler
from flow_matching.solver import MixtureDiscreteEulerSolver
from flow_matching.utils import ModelWrapper
from torch import Tensor

from benchmarks.timing import Case
from feller.core.rng import Rng
from feller.paths import Mixture
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.spaces import UniformSource
from feller.training.losses import GeneralizedKL


class Fixed(ModelWrapper):
    """One table of probabilities for every state."""

    def __init__(self, p: Tensor) -> None:
        super().__init__(torch.nn.Identity())
        self.p = p

    def forward(self, x: Tensor, t: Tensor, **_: object) -> Tensor:
        return self.p


def bare(p: Tensor, x: Tensor, steps: int) -> Tensor:
    """Flip the coins of a linear schedule, then draw for those that jump alone, in single precision."""
    rows, y = p.flatten(0, 1), x.flatten().clone()
    for i in range(steps):
        who = (torch.rand(y.shape) < 1 / (steps - i)).nonzero()[:, 0]
        if len(who):
            y[who] = rows[who].multinomial(1)[:, 0]
    return y.view(x.shape)


def cases() -> Iterator[Case]:
    """Three alphabets: letters, bytes, subwords."""
    for symbols, n, steps, repeat, ratio in ((27, 64, 64, 5, 0.12), (128, 64, 64, 3, 0.1), (50_257, 1, 16, 2, 0.15)):
        torch.manual_seed(0)
        logits, x = torch.randn(n, 256, symbols), torch.randint(symbols, (n, 256))
        p, times = logits.softmax(-1), linear_grid(steps)
        process = Mixture(source=UniformSource()).process(lambda x, t, given, logits=logits: logits, {})
        solver = MixtureDiscreteEulerSolver(
            Fixed(p),
            MixtureDiscreteProbPath(PolynomialConvexScheduler(n=1.0)),
            symbols,
            source_distribution_p=torch.full((symbols,), 1 / symbols),
        )

        def feller(process=process, x=x, times=times) -> Tensor:
            return simulate(process, x, times, Euler(), Rng(0))

        def peer(solver=solver, x=x, steps=steps) -> Tensor:
            return solver.sample(x, step_size=1 / steps)

        def floor(p=p, x=x, steps=steps) -> Tensor:
            return bare(p, x, steps)

        yield Case(
            f"tokens, {symbols:,} symbols, {n} x 256, {steps} steps",
            {"feller": feller, "flow_matching": peer, "floor, single precision": floor},
            repeat,
            max_peer_ratio=ratio,
        )
    yield divergence()


def divergence() -> Case:
    """The generalised KL of rates, forward and backward, at the size of a language model's answer."""
    torch.manual_seed(0)
    logits = torch.randn(4, 256, 50_257, requires_grad=True)
    x_1, t = torch.randint(50_257, (4, 256)), 0.9 * torch.rand(4)
    x_t = torch.where(torch.rand(4, 256) < 0.5, x_1, torch.randint(50_257, (4, 256)))
    peer = MixturePathGeneralizedKL(MixtureDiscreteProbPath(PolynomialConvexScheduler(n=1.0)), reduction="mean")

    def backward(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            logits.grad = None
            with torch.enable_grad():
                loss().backward()

        return run

    return Case(
        "generalised KL, forward and backward, 4 x 256 x 50,257",
        {
            "feller": backward(lambda: GeneralizedKL().entries(logits, x_1, x_t, t).mean()),
            "flow_matching": backward(lambda: peer(logits, x_1, x_t, t)),
        },
        5,
        max_peer_ratio=0.25,
    )
