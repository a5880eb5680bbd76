"""Claims about finite steps and correctors for one token with an exact network."""

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.paths import (
    BetaSchedule,
    ConstantSpeedBeta,
    ForwardIncrement,
    LeaveOneOut,
    LevelDistance,
    LogOddsCorrector,
    MetricPath,
    MidpointIncrement,
    Mixture,
    PowerBeta,
    RenoiseCorrector,
    ReversibleCorrector,
    TokenPath,
)
from feller.paths.path import Cond
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.spaces import Tokens, UniformSource
from feller_papers.claims import Claim, spread_of, verdict
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.kinetic_optimal.stepping import EulerRates

NUM_LEVELS = 17
PROBABILITIES = {2: 0.5, 9: 0.2, 15: 0.3}
"""Data distribution: three of 17 levels."""
CALLS = (4, 8, 16, 32)
SCHEDULES: dict[str, BetaSchedule] = {
    "a = 2, c = 3": PowerBeta(),
    "a = 5, c = 1": PowerBeta(5.0, 1.0),
    "constant speed": ConstantSpeedBeta(),
}


def _data_probabilities() -> Tensor:
    """Return the probabilities of the data, [K]."""
    return torch.zeros(NUM_LEVELS, dtype=torch.float64).scatter(
        0, torch.tensor([*PROBABILITIES]), torch.tensor([*PROBABILITIES.values()]).double()
    )


def exact_network(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
    """Return the logits of an exact network for a single token: the data distribution."""
    return _data_probabilities().log().clamp(min=-1e9).expand(*x_t.shape, NUM_LEVELS)


def distance(path: TokenPath, calls: int) -> float:
    """Return the total variation between the data and the end of equal steps, by exact transition kernels."""
    p, times = torch.full((NUM_LEVELS,), 1 / NUM_LEVELS, dtype=torch.float64), linear_grid(calls)
    x, x_1 = (
        part.flatten() for part in torch.meshgrid(torch.arange(NUM_LEVELS), torch.arange(NUM_LEVELS), indexing="ij")
    )
    for time, s in itertools.pairwise(times):
        t = torch.full((NUM_LEVELS,), time, dtype=torch.float64)
        posterior = path.posterior_logits(
            exact_network(torch.arange(NUM_LEVELS), t, {}), torch.arange(NUM_LEVELS), t
        ).softmax(1)
        jumps, weights = path.expected_jumps(x_1, x, t[:1].expand(NUM_LEVELS**2), s, NUM_LEVELS)
        destinations = torch.eye(NUM_LEVELS, dtype=torch.float64)[x_1] if weights is None else weights
        destinations = destinations / destinations.sum(1, keepdim=True).clamp(min=1e-300)
        jump_prob = -torch.expm1(-jumps)[:, None]
        kernel = jump_prob * destinations + (1 - jump_prob) * torch.eye(NUM_LEVELS, dtype=torch.float64)[x]
        p = torch.einsum("x,xa,xay->y", p, posterior, kernel.view(NUM_LEVELS, NUM_LEVELS, NUM_LEVELS))
    return (p - _data_probabilities()).abs().sum().item() / 2


def few_steps(setting: Setting) -> list[Claim]:
    """Return the claims of section 6: midpoint increments of beta against Euler steps."""
    claims = []
    for name, schedule in SCHEDULES.items():
        path = MetricPath(LevelDistance(NUM_LEVELS), schedule, parameterization=LeaveOneOut())
        euler, forward, midpoint = (
            [distance(replace(path, step_rule=step_rule), calls) for calls in CALLS]
            for step_rule in (EulerRates(), ForwardIncrement(), MidpointIncrement())
        )
        ratios = [a / b for a, b in zip(euler, midpoint, strict=True)]
        claims.append(
            Claim(
                f"Increments need fewer steps than rates at the start times the step: metric path, {name}",
                "not in the paper; its step multiplies rates by the step",
                f"total variation after 4, 8, 16, 32 steps: {_format_row(midpoint)}; rates at the start"
                f" {_format_row(euler)}; increments with the law at the start {_format_row(forward)}",
                f"no randomness; {min(ratios):.3g} to {max(ratios):.3g} times better",
                verdict(min(ratios[:2]) >= 3),
            )
        )
    return claims


def _format_row(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def correctors(setting: Setting) -> list[Claim]:
    """Return the claim of section 6: correctors keep the marginals, by sampling."""
    n, calls = 20_000, (8, 64)
    metric = MetricPath(LevelDistance(NUM_LEVELS), PowerBeta(), parameterization=LeaveOneOut())
    mixture = Mixture(source=UniformSource(), parameterization=LeaveOneOut())
    paths = {
        "resampling": replace(metric, corrector=RenoiseCorrector(4.0)),
        "forward and reverse": replace(metric, corrector=ReversibleCorrector(1.0)),
        "resampling of a mixture": replace(mixture, corrector=RenoiseCorrector(4.0)),
        "odds of a mixture": replace(mixture, corrector=LogOddsCorrector(1.0)),
    }
    distances: dict[str, list[list[float]]] = {name: [] for name in paths}
    for seed in setting.seeds:
        x_0 = Tokens(NUM_LEVELS, (1,)).sample_base(n, Rng(seed).stream("source"))
        for name, path in paths.items():
            samples = [
                simulate(path.process(exact_network, {}), x_0, linear_grid(steps), Euler(), Rng(seed))
                for steps in calls
            ]
            frequencies = [torch.bincount(sample.flatten(), minlength=NUM_LEVELS) / n for sample in samples]
            distances[name].append(
                [(frequency - _data_probabilities()).abs().sum().item() / 2 for frequency in frequencies]
            )
    final_distances = [max(rows[i][1] for rows in distances.values()) for i in range(len(setting.seeds))]
    return [
        Claim(
            "Correctors keep the marginals of a path",
            "exact as the steps become small",
            "total variation after 8 and 64 steps: "
            + "; ".join(
                f"{name} {_format_row([max(row[i] for row in rows) for i in (0, 1)])}"
                for name, rows in distances.items()
            ),
            spread_of(final_distances) + f" after 64 steps; {n:,} draws alone leave 0.004",
            verdict(max(final_distances) < 0.02),
        )
    ]
