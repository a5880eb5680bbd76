"""Sampling with a network, and the solver's own work."""

from collections.abc import Callable, Iterator

import torch
from azula.denoise import KarrasDenoiser
from azula.noise import RectifiedSchedule
from azula.sample import DDIMSampler, DDPMSampler, EulerSampler, HeunSampler, ItoSampler
from flow_matching.solver import ODESolver
from torch import Tensor, nn

from benchmarks.network import ForAzula, ForFlowMatching, Minus, Perceptron
from benchmarks.timing import Case
from feller.core.rng import Rng
from feller.paths import Affine, DataPrediction
from feller.paths.affine import SigmaProportional
from feller.paths.time_distributions import linear_grid
from feller.sampling import Ancestral, DormandPrince, Euler, Heun, Midpoint, Solver, simulate

STEPS = 100


def bare_euler(network: nn.Module, x: Tensor) -> Tensor:
    h = 1 / STEPS
    for i in range(STEPS):
        x = x + h * network(x, i * h)
    return x


def bare_midpoint(network: nn.Module, x: Tensor) -> Tensor:
    h = 1 / STEPS
    for i in range(STEPS):
        t = i * h
        x = x + h * network(x + 0.5 * h * network(x, t), t + 0.5 * h)
    return x


def ours(network: nn.Module, x: Tensor, solver: Solver, path: Affine = Affine()) -> Callable[[], Tensor]:  # noqa: B008
    times = [0.0, 1.0] if isinstance(solver, DormandPrince) else linear_grid(STEPS)
    process = path.process(network, {})
    return lambda: simulate(process, x, times, solver, Rng(0))


def theirs(network: nn.Module, x: Tensor, method: str) -> Callable[[], Tensor]:
    solver = ODESolver(ForFlowMatching(network))
    step = None if method == "dopri5" else 1 / STEPS
    return lambda: solver.sample(x, step_size=step, method=method)


def cases() -> Iterator[Case]:
    torch.manual_seed(0)
    network, x = Perceptron(), torch.randn(10_000, 2)
    wide, y = Perceptron(width=512), torch.randn(512, 2)
    for name, net, state, repeat in (("MLP 64, 10,000 x 2", network, x, 5), ("MLP 512, 512 x 2", wide, y, 3)):
        yield Case(
            f"Euler, 100 steps, {name}",
            {
                "feller": ours(net, state, Euler()),
                "flow_matching": theirs(net, state, "euler"),
                "floor": lambda net=net, state=state: bare_euler(net, state),
            },
            repeat,
            max_floor_ratio=1.1,
        )
        yield Case(
            f"midpoint, 100 steps, {name}",
            {
                "feller": ours(net, state, Midpoint()),
                "flow_matching": theirs(net, state, "midpoint"),
                "floor": lambda net=net, state=state: bare_midpoint(net, state),
            },
            repeat,
            max_floor_ratio=1.1,
        )
    small, minus = torch.randn(16, 2), Minus()
    yield Case(
        "Euler, 100 steps, u = -x, 16 x 2",
        {
            "feller": ours(minus, small, Euler()),
            "flow_matching": theirs(minus, small, "euler"),
            "floor": lambda: bare_euler(minus, small),
        },
        31,
        max_floor_ratio=1.6,
    )
    yield Case(
        "midpoint, 100 steps, u = -x, 16 x 2",
        {
            "feller": ours(minus, small, Midpoint()),
            "flow_matching": theirs(minus, small, "midpoint"),
            "floor": lambda: bare_midpoint(minus, small),
        },
        31,
        max_floor_ratio=1.6,
    )
    yield Case(
        "Dormand-Prince 1e-5, u = -x, 16 x 2",
        {"feller": ours(minus, small, DormandPrince()), "flow_matching": theirs(minus, small, "dopri5")},
        31,
    )
    yield Case(
        "Dormand-Prince 1e-5, MLP 64, 10,000 x 2",
        {"feller": ours(network, x, DormandPrince()), "flow_matching": theirs(network, x, "dopri5")},
        15,
    )
    yield from _against_azula(network, x)


def _against_azula(network: nn.Module, x: Tensor) -> Iterator[Case]:
    denoiser = KarrasDenoiser(ForAzula(network), RectifiedSchedule())
    data = Affine(prediction=DataPrediction())
    for name, peer, path, solver in (
        ("Euler", EulerSampler, data, Euler()),
        ("Heun", HeunSampler, data, Heun()),
        ("DDIM", DDIMSampler, data, Ancestral(eta=0.0)),
        ("DDPM", DDPMSampler, data, Ancestral()),
        ("with noise", ItoSampler, Affine(prediction=DataPrediction(), noise=SigmaProportional()), Euler()),
    ):
        sampler = peer(denoiser, steps=STEPS, silent=True)
        start = sampler.init((10_000, 2))
        yield Case(
            f"{name}, 100 steps, data prediction, MLP 64, 10,000 x 2",
            {
                "feller": ours(network, x, solver, path),
                "azula": lambda sampler=sampler, start=start: sampler(start),
            },
            5,
        )
