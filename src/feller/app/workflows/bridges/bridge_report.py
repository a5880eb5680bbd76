"""Writing of the report of a bridge: files with paths and pairs, metrics, and HTML page."""

import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from feller.app.reporter import Reporter
from feller.app.workflows.bridges.bridge_metrics import (
    arrival_metrics,
    bridge_figures,
    ess,
    n_compared,
    round_totals,
    straight_objective,
)
from feller.app.workflows.bridges.bridge_options import default_bridge_settings
from feller.app.workflows.bridges.bridge_run import BridgeRecord, bridge_command
from feller.app.workflows.bridges.cost_specs import surface_of
from feller.app.workflows.bridges.next_command import suggest_command, undertrained_bridge_notice
from feller.app.workflows.bridges.parse_costs import WARNING
from feller.app.workflows.bridges.populations import Populations
from feller.app.workflows.bridges.run_rounds import kept_round_numbers
from feller.app.workflows.bridges.trajectory_files import Counts, values_of, write_paths
from feller.control.bridges.population import Population
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.rounds import MAX_DIM_LOGGED
from feller.control.bridges.solution import BridgeSolution
from feller.control.bridges.trajectories import Trajectories
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.evaluation.bridge_quality import path_costs
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.evaluation.number_format import format_percent, sentence
from feller.evaluation.report.grades import GOOD
from feller.evaluation.report.report_page import RunReport, write_report
from feller.evaluation.report.verdict import judge_numbers
from feller.training.callbacks import read_metrics
from feller.training.engine import get_engine

NEIGHBOURS, REACH_SAMPLES = 20, 5000
"""Number of nearest surface points in a plane fit, and maximum number of surface points used to estimate the reach of
plane fits."""
REACH_QUANTILE = 0.99
"""The reach of plane fits is this quantile of the horizontal distances from a surface point to the farthest of its
`NEIGHBOURS` nearest surface points."""


def outside_fraction(record: BridgeRecord, populations: Populations, trajectories: Trajectories) -> float | None:
    """Return the mean fraction of time that paths spend off the surface of the state cost; None without a surface.

    A point is off the surface if its horizontal distance to the nearest surface point is larger than the reach. The
    reach is a high quantile of the horizontal distance from a surface point to its farthest neighbour in a plane fit.
    Points above or below a gap between surface points are therefore off the surface if the gap is wide enough.
    """
    cloud = surface_of(record.costs) if tuple(populations.states[0].shape[1:]) == (3,) else None
    if cloud is None:
        return None
    surface = cloud[:, :2].numpy()
    tree = KDTree(surface)
    subset = surface[:: -(-len(surface) // REACH_SAMPLES)]
    reach = np.quantile(tree.query(subset, min(NEIGHBOURS + 1, len(surface)))[0][:, -1], REACH_QUANTILE)
    positions = values_of(populations.modality, trajectories.states)[..., :2]
    is_outside = tree.query(positions.reshape(-1, 2))[0].reshape(positions.shape[:2]) > reach
    time_outside = torch.trapezoid(
        torch.from_numpy(is_outside.mean(0)), torch.tensor(trajectories.times, dtype=torch.float64)
    )
    return float(time_outside) / (trajectories.times[-1] - trajectories.times[0])


DIVIDING_WEIGHT, DYING_WEIGHT = 2.0, 0.5
"""Weight (relative to the mean weight) above which a sample counts as dividing, and below which it counts as dying."""


def counts_of(problem: BridgeProblem) -> Counts:
    """Return the relative weights (mean 1) of the samples at both ends of each segment.

    These weights state how much mass grows or dies at each sample. The result is empty for balanced transport.
    """
    legs = [(_counts(start), _counts(end)) for start, end in problem.populations]
    return [(a, b) for a, b in legs if a is not None and b is not None]


def growth_notes(counts: Counts, record: BridgeRecord) -> list[str]:
    """Return one note for each segment between populations, with the fractions of dividing and dying samples."""
    notes = []
    for (weights, _), name in zip(counts, record.populations, strict=False):
        dividing, dying = float((weights >= DIVIDING_WEIGHT).mean()), float((weights < DYING_WEIGHT).mean())
        notes.append(
            f"with --growth, {format_percent(dividing)} of the samples of {name} have at least twice the mean weight"
            f" (dividing) and {format_percent(dying)} less than half of it (dying); the maximum is {weights.max():.3g}"
            " times the mean (counts.csv)"
        )
    return notes


def _counts(population: object) -> np.ndarray | None:
    if not isinstance(population, Population) or population.weights is None:
        return None
    weights = population.weights.double().cpu().numpy()
    return weights * (len(weights) / weights.sum())


MIN_TRAJECTORIES, MAX_TRAJECTORIES = 500, 2000
"""Minimum and maximum number of simulated trajectories; within these bounds, one per sample of the first population."""
SIMULATED_AT, COSTED_AT, MEASURED_AT = 0.5, 0.6, 0.8
"""Progress shown after the simulation, after the path costs, and after the distances, as fractions of the report."""
MAX_BLOCKED_FRACTION = 0.05
"""Fraction of paths through walls above which the report shows a warning."""


def report_bridge(
    run: Run,
    record: BridgeRecord,
    populations: Populations,
    solution: BridgeSolution,
    notes: tuple[str, ...],
    effort: EvaluationBudget,
    reporter: Reporter,
) -> dict[str, Any]:
    """Simulate trajectories from the first population to the last, and write the files and the report.

    Returns:
        Metrics of the report, and the path of the report under the key `report`.
    """
    reporter.start("simulating trajectories")
    default_n = min(max(len(populations.states[0]), MIN_TRAJECTORIES), MAX_TRAJECTORIES)
    n = effort.num_affordable(
        default_n, SIMULATED_AT, lambda n_trial: _simulate(solution, record, populations, n_trial), get_engine()
    )
    if n < default_n:
        notes = (
            *notes,
            f"reduced to save time: {n:,} of {default_n:,} trajectories; full evaluation: feller evaluate {run.path}",
        )
    trajectories, start_indices = _simulate(
        solution, record, populations, n, lambda fraction: reporter.progress(SIMULATED_AT * fraction)
    )
    rng = Rng(record.seed).fold_in("report")
    cost_profile = path_costs(
        trajectories.times, trajectories.states.flatten(2), trajectories.control.flatten(2), solution.problem.cost, rng
    )
    knot_trajectories = trajectories.thin(_pieces(solution) + 1)
    reporter.progress(COSTED_AT, "distances")
    metrics: dict[str, Any] = {
        **arrival_metrics(knot_trajectories, solution.problem, record, rng, n_compared(solution.config)),
        **cost_profile.averages(),
    }
    kept_round = kept_round_numbers(solution.state.best_rounds, read_metrics(run.metrics))
    metrics["objective_straight"] = straight_objective(solution.problem, populations, knot_trajectories, rng)
    reporter.progress(MEASURED_AT, "paths of pairs")
    metrics |= {"ess": ess(solution, knot_trajectories, rng), **round_totals(run), **kept_round}
    metrics |= {"sigma": record.noise, "n": len(knot_trajectories.states)}
    metrics = {name: value for name, value in metrics.items() if value is not None}
    counts = counts_of(solution.problem)
    weight_notes = growth_notes(counts, record)
    outside_time = outside_fraction(record, populations, knot_trajectories)
    metrics |= {} if outside_time is None else {"outside_time": outside_time}
    notes = (*notes, *_outside_warnings(metrics), *weight_notes)
    rounds, default_settings = int(metrics["rounds"]), default_bridge_settings(populations.modality)
    notice = undertrained_bridge_notice(run, record, solution.config, default_settings, rounds)
    if get_engine().is_main_process:
        write_paths(run, record, populations.modality, knot_trajectories, start_indices, populations.states, counts)
        reporter.start("plotting")
        push = shlex.join(["feller", "sample", str(run.path), "--from", record.populations[0], "--out", "pushed.npz"])
        needs_longer = judge_numbers(metrics).grade not in ("", GOOD)
        page = RunReport(
            title=f"Bridge from {' to '.join(record.populations)}",
            command=bridge_command(record, solution.config, run.path, rounds),
            sketch=notice,
            compared=" ".join([_followed_text(record, len(trajectories.states)), *_warnings(notes)]),
            numbers=metrics,
            notes=(*record.notes, *notes),
            settings=to_dict(solution.config),
            curve=None,
            heading="Paths",
            pictures=bridge_figures(run, record, populations, solution, trajectories, cost_profile),
            next_steps=[
                (push, "transport other samples through the bridge"),
                suggest_command(
                    run,
                    record,
                    solution.config,
                    default_settings,
                    rounds,
                    is_undertrained=bool(notice),
                    needs_longer_rounds=needs_longer,
                ),
            ],
        )
        write_report(run.path, page)
    reporter.finish()
    for line in (*_warnings(notes), *map(sentence, weight_notes)):
        reporter.log(line)
    return {**metrics, "report": str(run.path / "report.html")}


def _simulate(
    solution: BridgeSolution,
    record: BridgeRecord,
    populations: Populations,
    n: int,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Trajectories, Tensor]:
    """Simulate trajectories from samples of the first population; return them, and the indices of these samples.

    Small states are stored at every step, so that walls between two knots are detected.
    """
    members = populations.states[0]
    weights = getattr(solution.problem.populations[0][0], "weights", None)
    start_indices = Population(members, weights).sample_indices(n, Rng(record.seed).fold_in("cross"))
    every = 1 if members[0].numel() <= MAX_DIM_LOGGED else None
    return solution.transport(members[start_indices], record.seed, every=every, on_progress=on_progress), start_indices


def _outside_warnings(metrics: dict[str, Any]) -> list[str]:
    """Return warnings about paths through walls, and about paths off a surface, where its plane fits extrapolate."""
    warnings = {
        "inside_paths": "of the paths cross an obstacle. Try a smaller --noise, a higher cost or more rounds",
        "outside_time": "of the path time is outside the surface, where its planes are extrapolated. Add points in a"
        " wider area, or reduce --noise",
    }
    return [
        f"{WARNING}{format_percent(fraction)} {text}"
        for name, text in warnings.items()
        if (fraction := metrics.get(name) or 0.0) > MAX_BLOCKED_FRACTION
    ]


def _pieces(solution: BridgeSolution) -> int:
    """Return an upper bound on the number of intervals between knots of a trajectory, over all segments."""
    return (solution.config.control.mean_knots - 1) * len(solution.problem.populations)


def _followed_text(record: BridgeRecord, n: int) -> str:
    first, *between, last = record.populations
    targets = [f"{name} at time {time:g}" for name, time in zip(between, record.times[1:], strict=False)]
    targets.append(f"{last} at time {record.times[-1]:g}" if between else last)
    subject = "their states are" if between else "their end points are"
    return f"Evaluated: {n:,} trajectories from samples of {first}; {subject} compared with samples of" + (
        f" {', '.join(targets)}."
    )


def _warnings(notes: Sequence[str]) -> list[str]:
    return [sentence(note) for note in notes if note.startswith(WARNING)]
