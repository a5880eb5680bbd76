"""Claims about opinions that polarise without control, and reach an isotropic distribution with it."""

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.solution import solve_bridge
from feller.control.bridges.trajectories import simulate_drift, time_grid
from feller.core.rng import Rng
from feller.networks.mlp import MLP
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.gsbm import problems
from feller_papers.gsbm.setting import Budget, Setting

NUM_TRAJECTORIES = 2048
"""Simulated trajectories: with fewer, the largest sample eigenvalue is biased upward."""
POPULATIONS = ("controlled", "uncontrolled", "target")
"""Populations in the report, as fields of `OpinionMetrics`."""
THOUSAND_CONFIG = BridgeSolverConfig(
    architecture=MLP(width=256, depth=3),
    control=ConditionalControl(mean_knots=15, scale_knots=15, times=5, num_samples=2, chunk_size=128),
    train=replace(BridgeSolverConfig().train, lr=2e-4),  # the drift is nearly linear; a larger rate overfits the pairs
)
PLANE_CONFIG = BridgeSolverConfig(architecture=MLP(width=128, depth=3), control=ConditionalControl(times=30))


@dataclass(frozen=True)
class Spread:
    """Spread of a population of opinions."""

    variance: float
    """Mean variance over the questions."""
    mean_offset: float
    """Mean over the questions of the absolute mean."""
    top_eigenvalue: float
    """Largest eigenvalue of the covariance over the mean one."""

    @staticmethod
    def from_samples(x: Float[Tensor, "n d"]) -> "Spread":
        """Return the spread of samples."""
        eigenvalues = torch.linalg.eigvalsh(torch.cov(x.double().T))
        mean = eigenvalues.mean().item()
        return Spread(mean, x.mean(0).abs().mean().item(), eigenvalues[-1].item() / mean)


@dataclass(frozen=True)
class OpinionMetrics:
    """Spread of the end states, and costs."""

    controlled: Spread
    uncontrolled: Spread
    """End states without control."""
    target: Spread
    """As many samples of the target population."""
    control: float
    """Control cost 1/2 |u|^2 / noise^2, as in the paper."""
    lost: int
    seconds: float


@functools.cache
def solve_opinions(budget: Budget, d: int, seed: int) -> OpinionMetrics:
    """Return the metrics of a solved bridge on a fresh population."""
    problem, start = problems.opinions(d), time.process_time()
    config = budget.apply(THOUSAND_CONFIG if d > 2 else PLANE_CONFIG)
    solution = solve_bridge(problem, config, seed=seed)
    seconds, rng = time.process_time() - start, Rng(seed).fold_in("judge")
    source, target = (crowd(NUM_TRAJECTORIES, rng.fold_in(index)) for index, crowd in enumerate(problem.populations[0]))
    trajectories = solution.transport(source, seed)
    times, substeps = time_grid(problem.times, 2, config.nfe)
    base_drift = problem.base_drift or (lambda x, t: torch.zeros_like(x))
    uncontrolled = simulate_drift(base_drift, lambda fresh: source, problem.noise, times, substeps, rng)
    energy = trajectories.control.square().sum(2).mean(0) / (2 * problem.noise**2)
    return OpinionMetrics(
        Spread.from_samples(trajectories.states[:, -1]),
        Spread.from_samples(uncontrolled.states[:, -1]),
        Spread.from_samples(target),
        torch.trapezoid(energy, torch.tensor(trajectories.times)).item(),
        sum(trajectory.num_lost for round_result in solution.rounds for trajectory in round_result.trajectories),
        seconds,
    )


def thousand(setting: Setting) -> Iterator[Claim]:
    """Return the claim about opinions on a thousand questions."""
    rows = [solve_opinions(setting.opinions, 1000, seed) for seed in setting.seeds]
    holds = all(
        abs(row.controlled.variance - 4) <= 0.2
        and row.controlled.mean_offset <= 0.15
        and row.controlled.top_eigenvalue <= 4
        for row in rows
    )
    yield Claim(
        "Opinions on 1000 questions: a crowd that polarises by itself is led to opinions that are spread out evenly",
        "reached, at about half the objective of DeepGSB (second-hand, no figures)",
        f"{_format(rows, setting.opinions)} Wanted: variance 4 to within 5 %, a mean of at most 0.15, an eigenvalue of"
        " at most 4",
        f"{spread_of([row.controlled.variance for row in rows])}, variance",
        verdict(holds),
    )


def plane(setting: Setting) -> Iterator[Claim]:
    """Return the claim about opinions on two questions."""
    budget = replace(setting.crowd, rounds=min(setting.crowd.rounds, 5))
    rows = [solve_opinions(budget, 2, seed) for seed in setting.seeds]
    holds = all(
        abs(row.controlled.variance - 3) <= 0.3
        and row.controlled.mean_offset <= 0.2
        and row.controlled.top_eigenvalue <= 1.2
        for row in rows
    )
    yield Claim(
        "Opinions on two questions: a crowd that polarises by itself is led to opinions that are spread out evenly",
        "shown in pictures",
        f"{_format(rows, budget)} Wanted: variance 3 to within 10 %, a mean of at most 0.2, an eigenvalue of at most"
        " 1.2",
        f"{spread_of([row.controlled.variance for row in rows])}, variance",
        verdict(holds),
    )


def _format(rows: Sequence[OpinionMetrics], budget: Budget) -> str:
    """Return the formatted metrics of all seeds."""
    words = [
        f"{name}"
        f" {', '.join(mean_of([getattr(getattr(row, key), attribute) for row in rows], 3) for key in POPULATIONS)}"
        for name, attribute in (
            ("mean variance", "variance"),
            ("mean of a question", "mean_offset"),
            ("largest eigenvalue", "top_eigenvalue"),
        )
    ]
    lost = sum(row.lost for row in rows)
    return (
        f"of {NUM_TRAJECTORIES} at the end, of as many without control and of as many of the wanted population:"
        f" {'; '.join(words)}, in mean ones. Control {mean_of([row.control for row in rows])}; {lost} walks lost;"
        f" {budget.rounds} rounds of {budget.pairs} pairs, {mean_of([row.seconds for row in rows], 3)} CPU-seconds."
    )
