"""Claims about opinions that drift apart by themselves, and are led to be spread out evenly."""

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
from feller_papers.gsbm.setting import Effort, Setting

FOLLOWED = 2048
"""Members whose end is measured: the largest eigenvalue of fewer is larger by chance alone."""
KINDS = ("reached", "alone", "wanted")
"""Crowds that are told of."""
MANY = BridgeSolverConfig(
    architecture=MLP(width=256, depth=3),
    control=ConditionalControl(mean_knots=15, scale_knots=15, times=5, num_samples=2, chunk_size=128),
    train=replace(
        BridgeSolverConfig().train, lr=2e-4
    ),  # nearly all is linear; faster, a network learns who the pairs are
)
FEW = BridgeSolverConfig(architecture=MLP(width=128, depth=3), control=ConditionalControl(times=30))


@dataclass(frozen=True)
class Spread:
    """How a crowd's opinions are spread."""

    variance: float
    """Mean over the questions."""
    centre: float
    """Mean of the absolute mean of a question."""
    top: float
    """Largest eigenvalue of the covariance, in mean ones."""

    @staticmethod
    def of(x: Float[Tensor, "n d"]) -> "Spread":
        """Measure a crowd."""
        eigenvalues = torch.linalg.eigvalsh(torch.cov(x.double().T))
        mean = eigenvalues.mean().item()
        return Spread(mean, x.mean(0).abs().mean().item(), eigenvalues[-1].item() / mean)


@dataclass(frozen=True)
class Led:
    """Where a crowd ends."""

    reached: Spread
    alone: Spread
    """Without control."""
    wanted: Spread
    """As many members of the population."""
    control: float
    """1/2 |u|^2 / noise^2, the paper's unit."""
    lost: int
    seconds: float


@functools.cache
def led(effort: Effort, d: int, seed: int) -> Led:
    """Learn to lead a crowd, and lead a fresh one."""
    posed, begun = problems.opinions(d), time.process_time()
    how = effort.of(MANY if d > 2 else FEW)
    found = solve_bridge(posed, how, seed=seed)
    seconds, draws = time.process_time() - begun, Rng(seed).fold_in("judge")
    begin, end = (crowd(FOLLOWED, draws.fold_in(place)) for place, crowd in enumerate(posed.populations[0]))
    walked = found.transport(begin, seed)
    times, between = time_grid(posed.times, 2, how.nfe)
    alone = posed.base_drift or (lambda x, t: torch.zeros_like(x))
    free = simulate_drift(alone, lambda fresh: begin, posed.noise, times, between, draws)
    energy = walked.control.square().sum(2).mean(0) / (2 * posed.noise**2)
    return Led(
        Spread.of(walked.states[:, -1]),
        Spread.of(free.states[:, -1]),
        Spread.of(end),
        torch.trapezoid(energy, torch.tensor(walked.times)).item(),
        sum(one.num_lost for found_round in found.rounds for one in found_round.trajectories),
        seconds,
    )


def thousand(setting: Setting) -> Iterator[Claim]:
    """Opinions on a thousand questions."""
    rows = [led(setting.opinions, 1000, seed) for seed in setting.seeds]
    holds = all(
        abs(row.reached.variance - 4) <= 0.2 and row.reached.centre <= 0.15 and row.reached.top <= 4 for row in rows
    )
    yield Claim(
        "Opinions on 1000 questions: a crowd that polarises by itself is led to opinions that are spread out evenly",
        "reached, at about half the objective of DeepGSB (second-hand, no figures)",
        f"{_words(rows, setting.opinions)} Wanted: variance 4 to within 5 %, a mean of at most 0.15, an eigenvalue of"
        " at most 4",
        f"{spread_of([row.reached.variance for row in rows])}, variance",
        verdict(holds),
    )


def plane(setting: Setting) -> Iterator[Claim]:
    """Opinions on two questions."""
    effort = replace(setting.crowd, rounds=min(setting.crowd.rounds, 5))
    rows = [led(effort, 2, seed) for seed in setting.seeds]
    holds = all(
        abs(row.reached.variance - 3) <= 0.3 and row.reached.centre <= 0.2 and row.reached.top <= 1.2 for row in rows
    )
    yield Claim(
        "Opinions on two questions: a crowd that polarises by itself is led to opinions that are spread out evenly",
        "shown in pictures",
        f"{_words(rows, effort)} Wanted: variance 3 to within 10 %, a mean of at most 0.2, an eigenvalue of at most"
        " 1.2",
        f"{spread_of([row.reached.variance for row in rows])}, variance",
        verdict(holds),
    )


def _words(rows: Sequence[Led], effort: Effort) -> str:
    """Return the figures of some seeds."""
    parts = [
        f"{name} {', '.join(mean_of([getattr(getattr(row, which), of) for row in rows], 3) for which in KINDS)}"
        for name, of in (("mean variance", "variance"), ("mean of a question", "centre"), ("largest eigenvalue", "top"))
    ]
    lost = sum(row.lost for row in rows)
    return (
        f"of {FOLLOWED} at the end, of as many without control and of as many of the wanted population:"
        f" {'; '.join(parts)}, in mean ones. Control {mean_of([row.control for row in rows])}; {lost} walks lost;"
        f" {effort.rounds} rounds of {effort.pairs} pairs, {mean_of([row.seconds for row in rows], 3)} CPU-seconds."
    )
