"""Exact claims about velocities."""

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

VOCAB_SIZE = 6
COST_WEIGHTS = tuple(tuple(1.0 + 4 * max(abs(y - x) - 1, 0) for x in range(VOCAB_SIZE)) for y in range(VOCAB_SIZE))
"""Cost weights of jumps, larger beyond the neighbouring level."""
VELOCITIES: tuple[Rates, ...] = (
    KineticOptimalRates(),
    Tempered(0.0),
    Tempered(2.0),
    FewestJumps(),
    LeastEnergy(COST_WEIGHTS),
)


def _paths(seed: int) -> dict[str, functools.partial[TokenPath]]:
    """Return constructors of paths for a velocity, with random distributions of a seed."""
    rng = Rng(seed).fold_in("laws")
    law = CategoricalSource(tuple((0.1 + rng.stream("source").uniform((VOCAB_SIZE,), torch.float64)).tolist()))
    a, b = rng.stream("logits").normal((2, VOCAB_SIZE, VOCAB_SIZE), torch.float64)
    masses = tuple(law.probabilities(VOCAB_SIZE).tolist())
    return {
        "linear mixture": functools.partial(Mixture, Linear(), law),
        "mixture, great circle": functools.partial(Mixture, KineticOptimal(1 / VOCAB_SIZE), UniformSource()),
        "mixture, a schedule per token": functools.partial(Mixture, KineticOptimalPerToken(masses), law),
        "metric, powers": functools.partial(MetricPath, LevelDistance(VOCAB_SIZE), PowerBeta()),
        "metric, constant speed": functools.partial(MetricPath, LevelDistance(VOCAB_SIZE, 3.0), ConstantSpeedBeta()),
        "geometric": functools.partial(SoftmaxPath, lambda x_1, t: a[x_1] + b[x_1] * (3 * t[:, None]).sin()),
    }


def _path_at(path: TokenPath, x_1: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return p_t, its derivative by automatic differentiation, [m, K], and the rates u(y, x) as [m, x, y]."""
    p, change = torch.func.jvp(lambda t: path.log_probabilities(x_1, t, VOCAB_SIZE).exp(), (t,), (torch.ones_like(t),))[
        :2
    ]
    x = torch.arange(VOCAB_SIZE).repeat(len(t))
    rates = path.conditional_rates(x_1.repeat_interleave(VOCAB_SIZE), x, t.repeat_interleave(VOCAB_SIZE), VOCAB_SIZE)
    return p, change, rates.view(len(t), VOCAB_SIZE, VOCAB_SIZE)


def forward_equation(setting: Setting) -> list[Claim]:
    """Return the claim that all velocities satisfy the Kolmogorov equation, at random data and times."""
    max_residuals, pairs = [], 0
    for seed in setting.seeds:
        rng, residual = Rng(seed).fold_in("places"), 0.0
        x_1 = rng.stream("data").randint(VOCAB_SIZE, (64,))
        t = 0.05 + 0.9 * rng.stream("time").uniform((64,), torch.float64)
        paths = _paths(seed).values()
        pairs = len(paths) * len(VELOCITIES)
        for make in paths:
            for velocity in VELOCITIES:
                p, change, rates = _path_at(make(velocity=velocity), x_1, t)
                flux = p[:, :, None] * rates
                inflow = flux.sum(1) - flux.sum(2)
                residual = max(residual, (inflow - change).abs().max().item(), -rates.min().item())
        max_residuals.append(residual)
    return [
        Claim(
            "Each velocity solves the Kolmogorov equation of its path",
            "exact",
            f"largest residual {max(max_residuals):.1e} over {pairs} pairs of path and velocity, 64 data and times"
            " each",
            spread_of(max_residuals),
            verdict(max(max_residuals) < 1e-10),
        )
    ]


def energy(flux: Tensor, p: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Return the sum over pairs of multiples j(y, x)^2 / (p(x) p(y)), [m]."""
    return (weights * flux**2 / (p[:, :, None] * p[:, None])).sum((1, 2))


def least_energy(setting: Setting) -> list[Claim]:
    """Return the claims about the kinetic energy of the optimum against other velocities."""
    weights, fisher_gaps, min_ratios, weighted_ratios = torch.tensor(COST_WEIGHTS, dtype=torch.float64), [], [], []
    for seed in setting.seeds:
        rng, other_ratios, ratios = Rng(seed).fold_in("places"), [], []
        x_1 = rng.stream("data").randint(VOCAB_SIZE, (64,))
        t = 0.05 + 0.9 * rng.stream("time").uniform((64,), torch.float64)
        for name, make in _paths(seed).items():
            p, change, rates = _path_at(make(), x_1, t)
            fisher, flux = (change**2 / p).sum(1), p[:, :, None] * rates
            fisher_gaps.append(((energy(flux, p) - fisher).abs() / fisher).max().item())
            found = [p[:, :, None] * _path_at(make(velocity=velocity), x_1, t)[2] for velocity in VELOCITIES[1:]]
            ratios.append((energy(found[3], p, weights) / energy(flux, p, weights)).max().item())
            found += [with_same_divergence(flux, rng.fold_in(name, i)) for i in range(100)]
            other_ratios.append(min((energy(other, p) / fisher).min().item() for other in found))
        min_ratios.append(min(other_ratios))
        weighted_ratios.append(max(ratios))
    return [
        Claim(
            "The kinetic-optimal velocity has the least symmetric kinetic energy, the Fisher information of the path",
            "least of all velocities with these marginals",
            f"relative distance to the Fisher information {max(fisher_gaps):.1e}; none of 4 other velocities and 100"
            f" random ones of 6 paths costs less: {min(min_ratios):.6f} times as much at least",
            spread_of(min_ratios),
            verdict(max(fisher_gaps) < 1e-9 and min(min_ratios) > 1 - 1e-12),
        ),
        Claim(
            "With another cost per jump one linear solve per law gives the least energy",
            "least under that cost",
            f"at most {max(weighted_ratios):.3f} of what the plain optimum costs, where jumps beyond a neighbour cost"
            " more",
            spread_of(weighted_ratios),
            verdict(max(weighted_ratios) <= 1 + 1e-9),
        ),
    ]


def with_same_divergence(flux: Tensor, rng: Rng) -> Tensor:
    """Return a flux with the same divergence, [m, x, y], plus a random divergence-free flux."""
    size = flux.mean((1, 2), keepdim=True)
    noise = size * rng.stream("flow").normal(flux.shape, torch.float64)
    noise = noise - noise.mT
    net = noise.sum(1) / flux.shape[1]  # net inflow of each token, removed by a gradient
    free = noise - net[:, None, :] + net[:, :, None]
    return (flux - flux.mT + free).relu()
