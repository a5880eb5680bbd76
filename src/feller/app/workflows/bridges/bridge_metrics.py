"""Computation of the metrics, and drawing of the figures, for the report of a bridge."""

import numpy as np
import torch
from torch import Tensor

from feller.app.workflows.bridges.bridge_run import BridgeRecord
from feller.app.workflows.bridges.cost_specs import common_frame, surface_of
from feller.app.workflows.bridges.populations import Populations
from feller.app.workflows.bridges.trajectory_files import values_of
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.costs import Sum, Zero
from feller.control.bridges.costs.unit_conversion import RescaledCost
from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.control.bridges.path_integral import PathIntegral
from feller.control.bridges.population import Population
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.solution import BridgeSolution
from feller.control.bridges.trajectories import Trajectories, segments_of
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.points.euclidean_points import Points
from feller.evaluation.bridge_quality import PathCosts, endpoint_distances, path_costs
from feller.evaluation.report.bridge_animation import animate_paths, filmstrip
from feller.evaluation.report.cost_plot import RoundSummary, plot_over_time, plot_rounds
from feller.evaluation.report.embedded_picture import ReportPicture
from feller.evaluation.report.projection import BridgeScene, Field, Walls, project_scene
from feller.training.callbacks import read_metrics
from feller.training.couplings.minibatch_ot import optimal_permutation

PAIRS_FOR_ESS, TRAJECTORIES_FOR_ESS = 32, 100
"""Number of endpoint pairs and of trajectories per pair, for estimating the effective sample size of the resampling."""
STEPS, ROOM = 150, 2**28
"""Number of time steps, between two populations, of the trajectories for estimating the effective sample size; and
limit on the memory of these trajectories in bytes."""
MAX_COMPARED = 500
"""Maximum number of end points to compare with a population, after each round and in the report."""
STRAIGHT = 500
"""Maximum number of sample pairs per segment for the baseline, which consists of Brownian bridges."""


def n_compared(settings: BridgeSolverConfig) -> int:
    """Return the number of end points of trajectories that are compared with a population.

    The number is the same in rounds and report. Their distances then have the same noise floor: the distance between
    two random sets of samples of one population.
    """
    return min(MAX_COMPARED, settings.pairs)


def arrival_metrics(
    trajectories: Trajectories, problem: BridgeProblem, record: BridgeRecord, rng: Rng, max_compared: int
) -> dict[str, float | None]:
    """Return the distances between trajectories, when they arrive at a population, and samples of this population.

    Each distance has a noise floor: the distance between two halves of the population.

    Args:
        trajectories: Trajectories from the first population to the last.
        problem: Bridge problem.
        record: Bridge record with the times in the user's units, which become parts of metric names.
        rng: Random streams for the choice of compared samples.
        max_compared: Maximum number of trajectories compared with a population.
    """
    metrics: dict[str, float | None] = {}
    for leg, (begin, length) in enumerate(segments_of(problem.times)):
        time_index = int(np.argmin(np.abs(np.array(trajectories.times) - (begin + length))))
        distances = endpoint_distances(
            trajectories.states[:, time_index].flatten(1),
            target_population(problem, leg),
            rng.fold_in("met", leg),
            max_compared,
        )
        tag = "" if leg == len(problem.populations) - 1 else f"_{record.times[leg + 1]:g}"
        floors = {name: "_floor" if name.endswith("_floor") else "" for name in distances}
        metrics |= {f"{name.removesuffix(floors[name])}{tag}{floors[name]}": value for name, value in distances.items()}
    return metrics


def target_population(problem: BridgeProblem, leg: int, *, backward: bool = False) -> Population:
    """Return the population at the end of segment number `leg`, which lies between two consecutive populations.

    It is the later population, or the earlier one if `backward`.
    """
    population = problem.populations[leg][not backward]
    if not isinstance(population, Population):
        raise TypeError("expected populations given by samples")
    return population


def straight_objective(
    problem: BridgeProblem, populations: Populations, trajectories: Trajectories, rng: Rng
) -> float | None:
    """Return the objective of a simple baseline for a bridge: control cost plus state cost, summed over segments.

    The paths of the baseline are Brownian bridges between samples of consecutive populations, paired by optimal
    transport.
    """
    total = 0.0
    for leg, (begin, length) in enumerate(segments_of(problem.times)):
        n_pairs = min(STRAIGHT, *map(len, populations.states[leg : leg + 2]))
        x_0, x_1 = (
            Population(x)(n_pairs, rng.fold_in("straight", leg, k)).flatten(1)
            for k, x in enumerate(populations.states[leg : leg + 2])
        )
        x_0 = x_0[optimal_permutation(x_0, x_1)]
        paths = GaussianPaths.brownian_bridges(x_0, x_1, problem.noise * length**0.5, 2, 2)
        t = torch.linspace(0, 1, 29, dtype=x_0.dtype)
        moments = paths.grid(t)
        z = rng.stream("straight", leg).normal(tuple(moments.mean.shape), x_0.dtype)
        states = moments.mean + moments.std[..., None] * z
        control = ((x_1 - x_0) / length)[:, None].expand(states.shape)
        times = [begin + length * fraction for fraction in t.tolist()]
        averages = path_costs(times, states, control, problem.cost, rng.fold_in("cost", leg)).averages()
        total += length * (averages["objective"] or 0.0)
    return total


def ess(solution: BridgeSolution, trajectories: Trajectories, rng: Rng) -> float | None:
    """Return the effective sample size of path-integral resampling as a fraction of the number of trajectories.

    Path-integral resampling draws trajectories between a pair of samples with weights that depend on their state cost;
    a small fraction means that few trajectories have almost all of the weight. The result is the minimum over segments.
    It is None without noise or state cost, if the state cost depends on the population, or if one pair needs too much
    memory.
    """
    problem, config = solution.problem, solution.config
    if not problem.noise or isinstance(problem.cost, Zero) or problem.cost.needs_population:
        return None
    fractions, n_knots = [], config.control.mean_knots
    n_pairs = min(PAIRS_FOR_ESS, ROOM // (4 * TRAJECTORIES_FOR_ESS * (STEPS + 1) * trajectories.states[0, 0].numel()))
    if not n_pairs:
        return None
    for leg, (begin, length) in enumerate(segments_of(problem.times)):
        states = trajectories.states[:n_pairs, leg * (n_knots - 1) : (leg + 1) * (n_knots - 1) + 1].flatten(2)
        cost = RescaledCost(problem.cost, begin, length)
        paths = GaussianPaths.from_knots(states, problem.noise * length**0.5, config.control.scale_knots)
        paths, _ = config.control.solve(paths, cost, rng.fold_in("pinned", leg))
        weighted = PathIntegral(trajectories=TRAJECTORIES_FOR_ESS, steps=STEPS).sample_weighted(
            paths, cost, rng.fold_in("weigh", leg)
        )
        fractions.append(float(weighted.ess.mean()) / TRAJECTORIES_FOR_ESS)
    return min(fractions)


def round_totals(run: Run) -> dict[str, float]:
    """Return statistics of all rounds: maximum fraction of diverged trajectories, number of rounds, and seconds."""
    rows = read_metrics(run.metrics)
    last_row = rows[-1] if rows else {}
    return {
        "lost": max((row.get("lost", 0.0) for row in rows), default=0.0),
        "rounds": len(rows),
        "seconds": last_row.get("seconds", 0.0),
    }


def bridge_figures(
    run: Run,
    record: BridgeRecord,
    populations: Populations,
    solution: BridgeSolution,
    trajectories: Trajectories,
    cost_profile: PathCosts,
) -> list[tuple[str, ReportPicture]]:
    """Draw the figures of the report: animated paths, their costs over time, and the metrics of the rounds."""
    begin, end = record.times[0], record.times[-1]
    times = begin + (end - begin) * np.array(trajectories.times)
    paths = values_of(populations.modality, trajectories.states)
    if (points := populations.modality.view(Points)) is None:
        figures: list[tuple[str, ReportPicture]] = [
            ("Images along the paths", filmstrip(_colours(paths), [f"{time:.3g}" for time in times]))
        ]
    else:
        scene = BridgeScene(
            times=times,
            paths=paths,
            populations=[
                values_of(populations.modality, samples[:, None])[:, 0] for samples in map(_some, populations.states)
            ],
            names=record.populations,
            columns=points.columns,
            population_times_given=record.times,
            field=_field(solution.problem, populations),
            walls=_walls(solution.problem, populations),
            frame=common_frame(record.costs, record.frame),
            surface=_surface(record, populations),
        )
        figures = [
            (f"Paths from one population to the next. {project_scene(scene).caption}".strip(), animate_paths(scene))
        ]
    curves = {"control": cost_profile.control_cost.numpy(), "state cost": cost_profile.state_cost.numpy()}
    if isinstance(solution.problem.cost, Zero):
        del curves["state cost"]
    figures.append(
        ("Cost of the paths over time", plot_over_time(begin + (end - begin) * cost_profile.times.numpy(), curves))
    )
    rows = [
        RoundSummary(
            number=int(row["step"]),
            backward=bool(row["backward"]),
            objective=row["objective"],
            w2=row.get("w2"),
            floor=row.get("w2_floor"),
        )
        for row in read_metrics(run.metrics)
    ]
    if rows:
        figures.append(("Rounds", plot_rounds(rows)))
    return figures


def _some(members: Tensor) -> Tensor:
    """Return all samples of a population in a random order, because plots show only the first ones."""
    return members[Population(members).sample_indices(len(members), Rng(0).fold_in("drawn"))]


def _colours(paths: np.ndarray) -> np.ndarray:
    """Return trajectories of images as 8-bit pixel values with a channel axis at the end."""
    images = paths if paths.ndim == 5 else paths[..., None]
    peak = images.max() or 1
    return (images.astype(np.float64) * (255 / peak)).clip(0, 255).round().astype(np.uint8)


def _is_plane(populations: Populations) -> bool:
    return tuple(populations.states[0].shape[1:]) == (2,)


def _field(problem: BridgeProblem, populations: Populations) -> Field | None:
    """Return the part of the state cost that plots show as shading: a function of points in the plane, at time 1/2.

    Walls and costs that depend on the population are left out; None if no cost remains or states are not planar.
    """
    terms = problem.cost.terms if isinstance(problem.cost, Sum) else (problem.cost,)
    costs = [term for term in terms if not (isinstance(term, Zero) or term.needs_population or term.obstacles)]
    if not costs or not _is_plane(populations):
        return None

    def field(points: np.ndarray) -> np.ndarray:
        x = populations.modality.encode(torch.from_numpy(points))
        with torch.no_grad():
            values = torch.stack([cost(x[None], x.new_tensor([[0.5]]))[0] for cost in costs])
        return values.sum(0).double().numpy()

    return field


def _walls(problem: BridgeProblem, populations: Populations) -> Walls | None:
    """Return a function that is True for points of the plane inside walls; None without walls or off the plane."""
    if not problem.cost.obstacles or not _is_plane(populations):
        return None

    def walls(points: np.ndarray) -> np.ndarray:
        x = populations.modality.encode(torch.from_numpy(points))
        return problem.cost.is_blocked(x).numpy()

    return walls


def _surface(record: BridgeRecord, populations: Populations) -> np.ndarray | None:
    points = surface_of(record.costs) if tuple(populations.states[0].shape[1:]) == (3,) else None
    return None if points is None else points.numpy()
