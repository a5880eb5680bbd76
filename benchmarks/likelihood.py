"""Log densities: the midpoint rule with 20 steps, exact and with one probe."""

import math
from collections.abc import Callable, Iterator

import torch
from flow_matching.solver import ODESolver
from torch import Tensor, nn

from benchmarks.network import ForFlowMatching, Perceptron
from benchmarks.timing import Case
from feller.core.rng import Rng
from feller.paths import Affine
from feller.paths.time_distributions import linear_grid
from feller.sampling import ExactDivergence, Hutchinson, Midpoint, log_prob

STEPS = 20


def standard_normal(x: Tensor) -> Tensor:
    return -(x.square() + math.log(2 * math.pi)).sum(-1) / 2


def bare_exact(network: nn.Module, x: Tensor) -> Tensor:
    """One forward pass at each start of a step; at each middle another, and a backward pass per coordinate."""
    h, change = 1 / STEPS, torch.zeros(len(x))
    for i in range(STEPS):
        t = 1 - i * h
        middle = (x - h / 2 * network(x, t)).requires_grad_()
        with torch.enable_grad():
            u = network(middle, t - h / 2)
            parts = u.sum(0).unbind()
        for k in range(x.shape[1]):
            (row,) = torch.autograd.grad(parts[k], middle, retain_graph=True)
            change -= h * row[:, k]
        x = x - h * u.detach()
    return standard_normal(x) + change


def bare_probe(network: nn.Module, x: Tensor) -> Tensor:
    """Do the same with one probe."""
    h, change, probe = 1 / STEPS, torch.zeros(len(x)), torch.randint(2, x.shape).to(x.dtype) * 2 - 1
    for i in range(STEPS):
        t = 1 - i * h
        middle = (x - h / 2 * network(x, t)).requires_grad_()
        with torch.enable_grad():
            u = network(middle, t - h / 2)
        (row,) = torch.autograd.grad(u, middle, probe)
        change -= h * (row * probe).sum(1)
        x = x - h * u.detach()
    return standard_normal(x) + change


def cases() -> Iterator[Case]:
    for dim, width, n, repeat in ((2, 64, 10_000, 5), (2, 512, 2_000, 3), (64, 256, 256, 3)):
        torch.manual_seed(0)
        network, x = Perceptron(dim, width), torch.randn(n, dim)
        process, times = Affine().process(network, {}), linear_grid(STEPS)[::-1]
        solver = ODESolver(ForFlowMatching(network))
        for name, kind, bare in (("exact", ExactDivergence(), bare_exact), ("one probe", Hutchinson(), bare_probe)):

            def feller(kind=kind, process=process, times=times, x=x) -> Tensor:
                return log_prob(process, x, times, Midpoint(), Rng(0), divergence=kind)

            def peer(name=name, solver=solver, x=x) -> Tensor:
                found = solver.compute_likelihood(
                    x, standard_normal, step_size=1 / STEPS, method="midpoint", exact_divergence=name == "exact"
                )
                return found[1]

            def floor(bare=bare, network=network, x=x) -> Tensor:
                return bare(network, x)

            yield Case(
                f"log density, {name}, midpoint {STEPS}, MLP {width}, {n:,} x {dim}",
                {"feller": feller, "flow_matching": peer, "floor": floor},
                repeat,
                max_floor_ratio=1.15,
                note=_note(feller, peer) if name == "exact" else lambda: "",
            )


def _note(feller: Callable[[], Tensor], peer: Callable[[], Tensor]) -> Callable[[], str]:
    return lambda: f"largest difference from flow_matching {(feller() - peer()).abs().max().item():.1e}"
