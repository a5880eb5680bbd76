"""What the theory says about velocities: exact, no training."""

import functools

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.paths import (
    ConstantSpeedBeta,
    FewestJumps,
    KineticOptimalRates,
    LeastEnergy,
    LevelDistance,
    MetricPath,
    Mixture,
    PowerBeta,
    Rates,
    SoftmaxPath,
    Tempered,
    TokenPath,
)
from feller.paths.discrete.token_schedules import KineticOptimal, KineticOptimalPerToken
from feller.paths.schedules import Linear
from feller.spaces import CategoricalSource, UniformSource
from feller_papers.claims import Claim, spread_of, verdict
from feller_papers.kinetic_optimal.setting import Setting

COUNT = 6
NEIGHBOURS = tuple(tuple(1.0 + 4 * max(abs(y - x) - 1, 0) for x in range(COUNT)) for y in range(COUNT))
"""Multiples of the cost of a jump: those beyond the next level cost more."""
VELOCITIES: tuple[Rates, ...] = (
    KineticOptimalRates(),
    Tempered(0.0),
    Tempered(2.0),
    FewestJumps(),
    LeastEnergy(NEIGHBOURS),
)


def _paths(seed: int) -> dict[str, functools.partial[TokenPath]]:
    """Return paths that wait for a velocity, with laws that a seed draws."""
    draws = Rng(seed).fold_in("laws")
    law = CategoricalSource(tuple((0.1 + draws.stream("source").uniform((COUNT,), torch.float64)).tolist()))
    a, b = draws.stream("logits").normal((2, COUNT, COUNT), torch.float64)
    masses = tuple(law.probabilities(COUNT).tolist())
    return {
        "linear mixture": functools.partial(Mixture, Linear(), law),
        "mixture, great circle": functools.partial(Mixture, KineticOptimal(1 / COUNT), UniformSource()),
        "mixture, a schedule per token": functools.partial(Mixture, KineticOptimalPerToken(masses), law),
        "metric, powers": functools.partial(MetricPath, LevelDistance(COUNT), PowerBeta()),
        "metric, constant speed": functools.partial(MetricPath, LevelDistance(COUNT, 3.0), ConstantSpeedBeta()),
        "geometric": functools.partial(SoftmaxPath, lambda x_1, t: a[x_1] + b[x_1] * (3 * t[:, None]).sin()),
    }


def _at(path: TokenPath, x_1: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return p_t, its derivative by automatic differentiation, [m, K], and the rates u(y, x) as [m, x, y]."""
    p, change = torch.func.jvp(lambda t: path.log_probabilities(x_1, t, COUNT).exp(), (t,), (torch.ones_like(t),))[:2]
    x = torch.arange(COUNT).repeat(len(t))
    rates = path.conditional_rates(x_1.repeat_interleave(COUNT), x, t.repeat_interleave(COUNT), COUNT)
    return p, change, rates.view(len(t), COUNT, COUNT)


def forward_equation(setting: Setting) -> list[Claim]:
    """Every velocity of every path moves mass as the path wants, at random data and times."""
    worst, pairs = [], 0
    for seed in setting.seeds:
        draws, residual = Rng(seed).fold_in("places"), 0.0
        x_1 = draws.stream("data").randint(COUNT, (64,))
        t = 0.05 + 0.9 * draws.stream("time").uniform((64,), torch.float64)
        paths = _paths(seed).values()
        pairs = len(paths) * len(VELOCITIES)
        for make in paths:
            for velocity in VELOCITIES:
                p, change, rates = _at(make(velocity=velocity), x_1, t)
                flux = p[:, :, None] * rates
                moved = flux.sum(1) - flux.sum(2)
                residual = max(residual, (moved - change).abs().max().item(), -rates.min().item())
        worst.append(residual)
    return [
        Claim(
            "Each velocity solves the Kolmogorov equation of its path",
            "exact",
            f"largest residual {max(worst):.1e} over {pairs} pairs of path and velocity, 64 data and times each",
            spread_of(worst),
            verdict(max(worst) < 1e-10),
        )
    ]


def energy(flux: Tensor, p: Tensor, multiples: Tensor | float = 1.0) -> Tensor:
    """Return the sum over pairs of multiples j(y, x)^2 / (p(x) p(y)), [m]."""
    return (multiples * flux**2 / (p[:, :, None] * p[:, None])).sum((1, 2))


def least_energy(setting: Setting) -> list[Claim]:
    """The kinetic optimum against all other velocities, and random ones; its energy is the Fisher information."""
    multiples, gaps, least, weighted = torch.tensor(NEIGHBOURS, dtype=torch.float64), [], [], []
    for seed in setting.seeds:
        draws, others, ratios = Rng(seed).fold_in("places"), [], []
        x_1 = draws.stream("data").randint(COUNT, (64,))
        t = 0.05 + 0.9 * draws.stream("time").uniform((64,), torch.float64)
        for name, make in _paths(seed).items():
            p, change, rates = _at(make(), x_1, t)
            fisher, flux = (change**2 / p).sum(1), p[:, :, None] * rates
            gaps.append(((energy(flux, p) - fisher).abs() / fisher).max().item())
            found = [p[:, :, None] * _at(make(velocity=velocity), x_1, t)[2] for velocity in VELOCITIES[1:]]
            ratios.append((energy(found[3], p, multiples) / energy(flux, p, multiples)).max().item())
            found += [with_same_divergence(flux, draws.fold_in(name, i)) for i in range(100)]
            others.append(min((energy(other, p) / fisher).min().item() for other in found))
        least.append(min(others))
        weighted.append(max(ratios))
    return [
        Claim(
            "The kinetic-optimal velocity has the least symmetric kinetic energy, the Fisher information of the path",
            "least of all velocities with these marginals",
            f"relative distance to the Fisher information {max(gaps):.1e}; none of 4 other velocities and 100 random "
            f"ones of 6 paths costs less: {min(least):.6f} times as much at least",
            spread_of(least),
            verdict(max(gaps) < 1e-9 and min(least) > 1 - 1e-12),
        ),
        Claim(
            "With another cost per jump one linear solve per law gives the least energy",
            "least under that cost",
            f"at most {max(weighted):.3f} of what the plain optimum costs, where jumps beyond a neighbour cost more",
            spread_of(weighted),
            verdict(max(weighted) <= 1 + 1e-9),
        ),
    ]


def with_same_divergence(flux: Tensor, draws: Rng) -> Tensor:
    """Return a flux with the same divergence, [m, x, y]: a random one without any is added."""
    size = flux.mean((1, 2), keepdim=True)
    noise = size * draws.stream("flow").normal(flux.shape, torch.float64)
    noise = noise - noise.mT
    net = noise.sum(1) / flux.shape[1]  # what flows into each symbol; a gradient takes it away
    free = noise - net[:, None, :] + net[:, :, None]
    return (flux - flux.mT + free).relu()
