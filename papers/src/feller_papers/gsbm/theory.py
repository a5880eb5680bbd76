"""Claims about pinned paths, path integral weights and bridges with known solutions."""

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
INTERIOR_TIMES = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
KNOTS, REPEATS = 30, 8
"""Knots of mean and standard deviation; repeated solutions per pair, with other samples."""
CONTROL = ConditionalControl(num_samples=8)
TRAJECTORIES = 20_000

BRIDGE = GaussianBridge(-1.0, 0.5, 1.0, 0.8, 1.0, 2.0)
NUM_TRAJECTORIES = 50_000
"""Simulated trajectories for the metrics of a bridge."""


def splines(setting: Setting) -> Iterator[Claim]:
    """Return claims about spline paths against the optimal pinned process, for a quadratic cost."""
    for problem in PAIRS:
        relative_excess, relative_errors = [], []
        for seed in setting.seeds:
            brownian = GaussianPaths.brownian_bridges(
                *problem.pairs(REPEATS, torch.float32), problem.noise, KNOTS, KNOTS
            )
            solution, _ = CONTROL.solve(brownian, problem.cost, Rng(seed).fold_in("splines"))
            relative_excess.append((problem.objective(solution).mean() / -problem.log_z - 1).item())
            relative_errors.append(
                (solution.grid(INTERIOR_TIMES).std / problem.std(INTERIOR_TIMES) - 1).abs().max().item()
            )
        yield Claim(
            "Under a quadratic cost the best pinned process is Gaussian (Lemma 3): knots find it, from"
            f" {problem.x_0:g} to {problem.x_1:g} in noise {problem.noise:g} with omega {problem.omega:g}",
            f"-log Z = {-problem.log_z:.6f}",
            f"{KNOTS} knots each cost {statistics.fmean(relative_excess):.3%} more, .2 % allowed; deviation within"
            f" {max(relative_errors):.2%}, 1 % allowed",
            spread_of(relative_excess),
            verdict(max(relative_excess) <= 0.002 and max(relative_errors) <= 0.01),
        )


def path_integral(setting: Setting) -> Iterator[Claim]:
    """Return claims about path integral weights on a problem with a non-Gaussian solution."""
    exact, marginals = barrier()
    marginal = marginals[0.5]
    gaussian_costs, log_z_costs, standard_errors, unweighted, weighted, mean_weighted = ([] for _ in range(6))
    for seed in setting.seeds:
        rng = Rng(seed).fold_in("barrier")
        paths, _ = ConditionalControl(num_samples=32).solve(
            GaussianPaths.brownian_bridges(*Barrier().pairs(), 1.0, 15, 30), Barrier(), rng
        )
        config = PathIntegral(trajectories=TRAJECTORIES)
        solution = config.sample_weighted(paths, Barrier(), rng.fold_in("weigh"))
        x, log_weights = solution.states[0, :, config.steps // 2, 0], solution.log_weights[0]
        gaussian_costs.append(Barrier().objective(paths).item())
        log_z_costs.append(-solution.log_z.item())
        standard_errors.append((1 / solution.ess - 1 / TRAJECTORIES).sqrt().item())
        unweighted.append(marginal.w1(x, torch.full_like(log_weights, 1 / len(log_weights))))
        weighted.append(marginal.w1(x, log_weights.exp()))
        mean_weighted.append(marginal.w1(x, (log_weights / config.steps).softmax(0)))
    improvement, error = (
        statistics.fmean(unweighted) / statistics.fmean(weighted),
        abs(statistics.fmean(log_z_costs) - exact),
    )
    worst_error = max(abs(value - exact) for value in log_z_costs)
    yield Claim(
        "Weights of trajectories remove what a Gaussian path gets wrong (its section on path integrals): a barrier"
        " between two ends",
        "no bias in the limit of many trajectories",
        f"{TRAJECTORIES:,} trajectories bring the law at t = .5 from W1 {mean_of(unweighted, 2)} to"
        f" {mean_of(weighted, 2)} of the exact one, {improvement:.3g} times nearer, 5 wanted; -log of their mean weight"
        f" {mean_of(log_z_costs)}, exactly {exact:.4f}: off by {error:.2g} in the mean of the seeds, .01 allowed, and"
        f" by {worst_error:.2g} in the worst, where {statistics.fmean(standard_errors):.2g} is the standard error of"
        f" one; the Gaussian path costs {mean_of(gaussian_costs)}",
        spread_of(weighted),
        verdict(improvement >= 5 and error <= 0.01),
    )
    yield Claim(
        "Weights of trajectories: V is summed over the steps of a trajectory; its mean over them, as in the public"
        " code, corrects nothing",
        "not in the paper",
        f"W1 {mean_of(unweighted, 3)} without weights, {mean_of(mean_weighted, 3)} with the mean,"
        f" {mean_of(weighted, 2)} with the sum",
        spread_of(mean_weighted),
        verdict(all(0.95 * a < b for a, b in zip(unweighted, mean_weighted, strict=True))),
    )


def gaussian_bridge(setting: Setting) -> Iterator[Claim]:
    """Return the claim about the bridge between two Gaussians."""
    problem = BridgeProblem(
        ((Gaussians(((BRIDGE.m_0,),), BRIDGE.s_0**2), Gaussians(((BRIDGE.m_1,),), BRIDGE.s_1**2)),),
        BRIDGE.noise,
        Quadratic(BRIDGE.noise, BRIDGE.omega, 0.0, 0.0).cost,
    )
    config = setting.line.apply(BridgeSolverConfig(architecture=MLP(width=64, depth=2)))
    (_, std), objectives, covariances, mid_stds = BRIDGE.moments(torch.tensor(0.5)), [], [], []
    for seed in setting.seeds:
        solution = solve_bridge(problem, config, seed=seed)
        trajectories = solution.transport(
            problem.populations[0][0](NUM_TRAJECTORIES, Rng(seed).fold_in("walkers")), seed
        )
        state = problem.cost(trajectories.states, torch.zeros(()))
        cost_over_time = (trajectories.control.square().sum(-1) / 2 + state).double().mean(0)
        objectives.append(float(simpson(cost_over_time.numpy(), x=trajectories.times)))
        x = trajectories.states[..., 0].double()
        covariances.append(torch.cov(torch.stack([x[:, 0], x[:, -1]]))[0, 1].item())
        mid_stds.append(x[:, x.shape[1] // 2].std().item())
    expected = BRIDGE.objective, BRIDGE.covariance, std.item()
    relative_errors = [
        max(abs(value / expected_value - 1) for value in values)
        for values, expected_value in zip((objectives, covariances, mid_stds), expected, strict=True)
    ]
    yield Claim(
        "The alternation finds the best bridge (its Theorems 5 and 6): N(-1, .5^2) to N(1, .8^2) under 2 x^2",
        f"objective {expected[0]:.6f}, covariance of the ends {expected[1]:.6f}, deviation in the middle"
        f" {expected[2]:.6f}",
        f"{mean_of(objectives)}, {mean_of(covariances, 3)} and {mean_of(mid_stds, 3)} after {config.rounds} rounds:"
        f" within {relative_errors[0]:.1%}, {relative_errors[1]:.1%} and {relative_errors[2]:.1%}; 3, 10 and 3 %"
        " allowed",
        spread_of(objectives),
        verdict(relative_errors[0] <= 0.03 and relative_errors[1] <= 0.1 and relative_errors[2] <= 0.03),
    )
