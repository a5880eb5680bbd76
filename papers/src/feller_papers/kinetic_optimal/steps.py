"""What finite steps and correctors do to the marginals of one token with a perfect network: exact or nearly so."""

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
from feller_papers.kinetic_optimal.stepping import Instant

COUNT = 17
LAW = {2: 0.5, 9: 0.2, 15: 0.3}
"""Of the data: three levels of 17."""
CALLS = (4, 8, 16, 32)
SCHEDULES: dict[str, BetaSchedule] = {
    "a = 2, c = 3": PowerBeta(),
    "a = 5, c = 1": PowerBeta(5.0, 1.0),
    "constant speed": ConstantSpeedBeta(),
}


def _data() -> Tensor:
    """Return the probabilities of the data, [K]."""
    return torch.zeros(COUNT, dtype=torch.float64).scatter(
        0, torch.tensor([*LAW]), torch.tensor([*LAW.values()]).double()
    )


def perfect(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
    """Return what a perfect network answers about a token that has no neighbours: the law of the data."""
    return _data().log().clamp(min=-1e9).expand(*x_t.shape, COUNT)


def distance(path: TokenPath, calls: int) -> float:
    """Return the total variation between data and the end of equal steps, without drawing: laws go through kernels."""
    p, times = torch.full((COUNT,), 1 / COUNT, dtype=torch.float64), linear_grid(calls)
    x, x_1 = (part.flatten() for part in torch.meshgrid(torch.arange(COUNT), torch.arange(COUNT), indexing="ij"))
    for now, s in itertools.pairwise(times):
        t = torch.full((COUNT,), now, dtype=torch.float64)
        posterior = path.posterior_logits(perfect(torch.arange(COUNT), t, {}), torch.arange(COUNT), t).softmax(1)
        jumps, weights = path.expected_jumps(x_1, x, t[:1].expand(COUNT**2), s, COUNT)
        to = torch.eye(COUNT, dtype=torch.float64)[x_1] if weights is None else weights
        to = to / to.sum(1, keepdim=True).clamp(min=1e-300)
        moved = -torch.expm1(-jumps)[:, None]
        kernel = moved * to + (1 - moved) * torch.eye(COUNT, dtype=torch.float64)[x]
        p = torch.einsum("x,xa,xay->y", p, posterior, kernel.view(COUNT, COUNT, COUNT))
    return (p - _data()).abs().sum().item() / 2


def few_steps(setting: Setting) -> list[Claim]:
    """Section 6: increments of beta at mid-beta against rates at the start of the step."""
    found = []
    for name, schedule in SCHEDULES.items():
        path = MetricPath(LevelDistance(COUNT), schedule, parameterization=LeaveOneOut())
        instant, ahead, middle = (
            [distance(replace(path, step_rule=stepping), calls) for calls in CALLS]
            for stepping in (Instant(), ForwardIncrement(), MidpointIncrement())
        )
        ratios = [a / b for a, b in zip(instant, middle, strict=True)]
        found.append(
            Claim(
                f"Increments need fewer steps than rates at the start times the step: metric path, {name}",
                "not in the paper; its step multiplies rates by the step",
                f"total variation after 4, 8, 16, 32 steps: {_row(middle)}; rates at the start {_row(instant)}; "
                f"increments with the law at the start {_row(ahead)}",
                f"no randomness; {min(ratios):.3g} to {max(ratios):.3g} times better",
                verdict(min(ratios[:2]) >= 3),
            )
        )
    return found


def _row(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def correctors(setting: Setting) -> list[Claim]:
    """Section 6: velocities that keep the marginals, drawn by the solver itself."""
    n, calls = 20_000, (8, 64)
    metric = MetricPath(LevelDistance(COUNT), PowerBeta(), parameterization=LeaveOneOut())
    mixture = Mixture(source=UniformSource(), parameterization=LeaveOneOut())
    kinds = {
        "resampling": replace(metric, corrector=RenoiseCorrector(4.0)),
        "forward and reverse": replace(metric, corrector=ReversibleCorrector(1.0)),
        "resampling of a mixture": replace(mixture, corrector=RenoiseCorrector(4.0)),
        "odds of a mixture": replace(mixture, corrector=LogOddsCorrector(1.0)),
    }
    found: dict[str, list[list[float]]] = {name: [] for name in kinds}
    for seed in setting.seeds:
        x_0 = Tokens(COUNT, (1,)).sample_base(n, Rng(seed).stream("source"))
        for name, path in kinds.items():
            ends = [simulate(path.process(perfect, {}), x_0, linear_grid(steps), Euler(), Rng(seed)) for steps in calls]
            shares = [torch.bincount(end.flatten(), minlength=COUNT) / n for end in ends]
            found[name].append([(share - _data()).abs().sum().item() / 2 for share in shares])
    late = [max(rows[i][1] for rows in found.values()) for i in range(len(setting.seeds))]
    return [
        Claim(
            "Correctors keep the marginals of a path",
            "exact as the steps become small",
            "total variation after 8 and 64 steps: "
            + "; ".join(
                f"{name} {_row([max(row[i] for row in rows) for i in (0, 1)])}" for name, rows in found.items()
            ),
            spread_of(late) + f" after 64 steps; {n:,} draws alone leave 0.004",
            verdict(max(late) < 0.02),
        )
    ]
