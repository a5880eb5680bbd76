"""Pinned paths, weights and whole bridges against problems whose best processes are known."""

import statistics
from collections.abc import Iterator

import torch
from scipy.integrate import simpson

from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.conditional_control import ConditionalControl
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.path_integral import PathIntegral
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.solution import solve_bridge
from feller.core.rng import Rng
from feller.networks.mlp import MLP
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.gsbm.exact import Barrier, GaussianBridge, Quadratic, barrier
from feller_papers.gsbm.problems import Gaussians
from feller_papers.gsbm.setting import Setting

PAIRS = (Quadratic(1.0, 2.0, 1.0, -0.5), Quadratic(0.5, 3.0, -1.0, 2.0), Quadratic(2.0, 1.0, 0.3, 0.7))
INSIDE = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
KNOTS, SAME = 30, 8
"""Of mean and deviation; how often each pair is solved, with other draws."""
CONTROL = ConditionalControl(num_samples=8)
TRAJECTORIES = 20_000

BRIDGE = GaussianBridge(-1.0, 0.5, 1.0, 0.8, 1.0, 2.0)
WALKERS = 50_000
"""Who measure a bridge that was found."""


def splines(setting: Setting) -> Iterator[Claim]:
    """Knots against the best pinned process, for a quadratic cost."""
    for problem in PAIRS:
        over, off = [], []
        for seed in setting.seeds:
            straight = GaussianPaths.brownian_bridges(*problem.pairs(SAME, torch.float32), problem.noise, KNOTS, KNOTS)
            found, _ = CONTROL.solve(straight, problem.cost, Rng(seed).fold_in("splines"))
            over.append((problem.objective(found).mean() / -problem.log_z - 1).item())
            off.append((found.grid(INSIDE).std / problem.std(INSIDE) - 1).abs().max().item())
        yield Claim(
            "Under a quadratic cost the best pinned process is Gaussian (Lemma 3): knots find it, from"
            f" {problem.x_0:g} to {problem.x_1:g} in noise {problem.noise:g} with omega {problem.omega:g}",
            f"-log Z = {-problem.log_z:.6f}",
            f"{KNOTS} knots each cost {statistics.fmean(over):.3%} more, .2 % allowed; deviation within"
            f" {max(off):.2%}, 1 % allowed",
            spread_of(over),
            verdict(max(over) <= 0.002 and max(off) <= 0.01),
        )


def path_integral(setting: Setting) -> Iterator[Claim]:
    """Weights on a pinned problem whose best process is not Gaussian."""
    exact, laws = barrier()
    law = laws[0.5]
    gaussian, least, chance, before, after, wrong = ([] for _ in range(6))
    for seed in setting.seeds:
        draws = Rng(seed).fold_in("barrier")
        paths, _ = ConditionalControl(num_samples=32).solve(
            GaussianPaths.brownian_bridges(*Barrier().pairs(), 1.0, 15, 30), Barrier(), draws
        )
        how = PathIntegral(trajectories=TRAJECTORIES)
        found = how.sample_weighted(paths, Barrier(), draws.fold_in("weigh"))
        x, logs = found.states[0, :, how.steps // 2, 0], found.log_weights[0]
        gaussian.append(Barrier().objective(paths).item())
        least.append(-found.log_z.item())
        chance.append((1 / found.ess - 1 / TRAJECTORIES).sqrt().item())
        before.append(law.w1(x, torch.full_like(logs, 1 / len(logs))))
        after.append(law.w1(x, logs.exp()))
        wrong.append(law.w1(x, (logs / how.steps).softmax(0)))
    cut, off = statistics.fmean(before) / statistics.fmean(after), abs(statistics.fmean(least) - exact)
    worst = max(abs(value - exact) for value in least)
    yield Claim(
        "Weights of trajectories remove what a Gaussian path gets wrong (its section on path integrals): a barrier"
        " between two ends",
        "no bias in the limit of many trajectories",
        f"{TRAJECTORIES:,} trajectories bring the law at t = .5 from W1 {mean_of(before, 2)} to {mean_of(after, 2)} of"
        f" the exact one, {cut:.3g} times nearer, 5 wanted; -log of their mean weight {mean_of(least)}, exactly"
        f" {exact:.4f}: off by {off:.2g} in the mean of the seeds, .01 allowed, and by {worst:.2g} in the worst, where"
        f" {statistics.fmean(chance):.2g} is the standard error of one; the Gaussian path costs {mean_of(gaussian)}",
        spread_of(after),
        verdict(cut >= 5 and off <= 0.01),
    )
    yield Claim(
        "Weights of trajectories: V is summed over the steps of a trajectory; its mean over them, as in the public"
        " code, corrects nothing",
        "not in the paper",
        f"W1 {mean_of(before, 3)} without weights, {mean_of(wrong, 3)} with the mean, {mean_of(after, 2)} with the sum",
        spread_of(wrong),
        verdict(all(0.95 * a < b for a, b in zip(before, wrong, strict=True))),
    )


def gaussian_bridge(setting: Setting) -> Iterator[Claim]:
    """The whole alternation between two normal laws."""
    problem = BridgeProblem(
        ((Gaussians(((BRIDGE.m_0,),), BRIDGE.s_0**2), Gaussians(((BRIDGE.m_1,),), BRIDGE.s_1**2)),),
        BRIDGE.noise,
        Quadratic(BRIDGE.noise, BRIDGE.omega, 0.0, 0.0).cost,
    )
    how = setting.line.of(BridgeSolverConfig(architecture=MLP(width=64, depth=2)))
    (_, std), objectives, covariances, middles = BRIDGE.moments(torch.tensor(0.5)), [], [], []
    for seed in setting.seeds:
        found = solve_bridge(problem, how, seed=seed)
        walk = found.transport(problem.populations[0][0](WALKERS, Rng(seed).fold_in("walkers")), seed)
        state = problem.cost(walk.states, torch.zeros(()))
        spent = (walk.control.square().sum(-1) / 2 + state).double().mean(0)
        objectives.append(float(simpson(spent.numpy(), x=walk.times)))
        x = walk.states[..., 0].double()
        covariances.append(torch.cov(torch.stack([x[:, 0], x[:, -1]]))[0, 1].item())
        middles.append(x[:, x.shape[1] // 2].std().item())
    wanted = BRIDGE.objective, BRIDGE.covariance, std.item()
    off = [
        max(abs(value / goal - 1) for value in values)
        for values, goal in zip((objectives, covariances, middles), wanted, strict=True)
    ]
    yield Claim(
        "The alternation finds the best bridge (its Theorems 5 and 6): N(-1, .5^2) to N(1, .8^2) under 2 x^2",
        f"objective {wanted[0]:.6f}, covariance of the ends {wanted[1]:.6f}, deviation in the middle {wanted[2]:.6f}",
        f"{mean_of(objectives)}, {mean_of(covariances, 3)} and {mean_of(middles, 3)} after {how.rounds} rounds: within"
        f" {off[0]:.1%}, {off[1]:.1%} and {off[2]:.1%}; 3, 10 and 3 % allowed",
        spread_of(objectives),
        verdict(off[0] <= 0.03 and off[1] <= 0.1 and off[2] <= 0.03),
    )
