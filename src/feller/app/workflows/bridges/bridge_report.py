"""Report of a bridge: paths, pairs, metrics and page."""

import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.workflows.bridges.advice import bridge_sketch, onward
from feller.app.workflows.bridges.bridge_metrics import arrivals, compared, ess, pictures, rounds_taken, straight
from feller.app.workflows.bridges.bridge_options import bridging
from feller.app.workflows.bridges.bridge_run import Bridged, command_of
from feller.app.workflows.bridges.cost_names import surface_of
from feller.app.workflows.bridges.parse_costs import WARNING
from feller.app.workflows.bridges.populations import Populations
from feller.app.workflows.bridges.run_rounds import of_the_kept
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
from feller.evaluation.report.report_page import RunReport, write_report
from feller.evaluation.report.verdict import GOOD, judge_numbers
from feller.training.callbacks import read_metrics
from feller.training.engine import get_engine

NEIGHBOURS, TRIED = 20, 5000
"""Points that a plane goes through, and points of a surface whose neighbours tell how far that is."""
USUAL = 0.99
"""Quantile of the distances to the last neighbour beyond which a place is outside."""


def outside(bridged: Bridged, crowd: Populations, walked: Trajectories) -> float | None:
    """Return which share of the time of all paths is outside of the surface of a cost; None without any.

    Outside is, seen from above, farther from the nearest point than nearly all points are from the last of those that
    their planes go through: at the rim too, or in a hole.
    """
    cloud = surface_of(bridged.costs) if tuple(crowd.states[0].shape[1:]) == (3,) else None
    if cloud is None:
        return None
    above = cloud[:, :2].numpy()
    tree = KDTree(above)
    some = above[:: -(-len(above) // TRIED)]
    reach = np.quantile(tree.query(some, min(NEIGHBOURS + 1, len(above)))[0][:, -1], USUAL)
    places = values_of(crowd.modality, walked.states)[..., :2]
    away = tree.query(places.reshape(-1, 2))[0].reshape(places.shape[:2]) > reach
    share = torch.trapezoid(torch.from_numpy(away.mean(0)), torch.tensor(walked.times, dtype=torch.float64))
    return float(share) / (walked.times[-1] - walked.times[0])


MORE, LESS = 2.0, 0.5
"""Times of the mean from which a member counts much more than others, and below which much less."""


def counts_of(problem: BridgeProblem) -> Counts:
    """Return what the members of each leg count, 1 in the mean; nothing where all count alike."""
    legs = [(_counts(one), _counts(other)) for one, other in problem.populations]
    return [(a, b) for a, b in legs if a is not None and b is not None]


def growing(counts: Counts, bridged: Bridged) -> list[str]:
    """Say of each leg which share of its members divides, or dies out."""
    said = []
    for (begins, _), name in zip(counts, bridged.populations, strict=False):
        more, less = float((begins >= MORE).mean()), float((begins < LESS).mean())
        said.append(
            f"by --growth, {format_percent(more)} of the members of {name} count twice the mean or more, as those that divide,"
            f" and {format_percent(less)} less than half of it, as those that die; one is {begins.max():.3g} times the mean"
            " (counts.csv)"
        )
    return said


def _counts(crowd: object) -> np.ndarray | None:
    if not isinstance(crowd, Population) or crowd.weights is None:
        return None
    weights = crowd.weights.double().cpu().numpy()
    return weights * (len(weights) / weights.sum())


LEAST, MOST = 500, 2000
"""Trajectories that are followed for files and page, where the first population has fewer or more members."""
WALKED, COSTED, MEASURED = 0.5, 0.6, 0.8
"""Shares of following trajectories that are done once these are walked, priced, and compared with members."""
MET = 0.05
"""Share of the paths that may meet an obstacle before people are warned."""


def report_bridge(
    run: Run,
    bridged: Bridged,
    crowd: Populations,
    found: BridgeSolution,
    notes: tuple[str, ...],
    effort: EvaluationBudget,
    tell: Tell,
) -> dict[str, Any]:
    """Follow trajectories from the first population to the last, write files and the page.

    Args:
        run: Its folder.
        bridged: What was asked for.
        crowd: The populations.
        found: The bridge.
        notes: What was said on the way.
        effort: With little time fewer trajectories are followed.
        tell: Hears how it goes.

    Returns:
        The numbers of the page, and where it is under `report`.
    """
    tell.task("following trajectories")
    usual = min(max(len(crowd.states[0]), LEAST), MOST)
    n = effort.num_affordable(usual, WALKED, lambda few: _crossed(found, bridged, crowd, few), get_engine())
    if n < usual:
        notes = (*notes, f"to save time: {n:,} of {usual:,} trajectories; all of them with: feller evaluate {run.path}")
    whole, which = _crossed(found, bridged, crowd, n, lambda share: tell.progress(WALKED * share))
    draws = Rng(bridged.seed).fold_in("report")
    seen = path_costs(whole.times, whole.states.flatten(2), whole.control.flatten(2), found.problem.cost, draws)
    walked = whole.thin(_pieces(found) + 1)
    tell.progress(COSTED, "distances")
    numbers: dict[str, Any] = {
        **arrivals(walked, found.problem, bridged, draws, compared(found.config)),
        **seen.averages(),
    }
    kept_of = of_the_kept(found.state.best_rounds, read_metrics(run.metrics))
    numbers["objective_straight"] = straight(found.problem, crowd, walked, draws)
    tell.progress(MEASURED, "paths of pairs")
    numbers |= {"ess": ess(found, walked, draws), **rounds_taken(run), **kept_of}
    numbers |= {"sigma": bridged.noise, "n": len(walked.states)}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    counts = counts_of(found.problem)
    grown = growing(counts, bridged)
    away = outside(bridged, crowd, walked)
    numbers |= {} if away is None else {"outside_time": away}
    notes = (*notes, *_outside(numbers), *grown)
    rounds, planned = int(numbers["rounds"]), bridging(crowd.modality)
    sketch = bridge_sketch(run, bridged, found.config, planned, rounds)
    if get_engine().is_main_process:
        write_paths(run, bridged, crowd.modality, walked, which, crowd.states, counts)
        tell.task("drawing")
        push = shlex.join(["feller", "sample", str(run.path), "--from", bridged.populations[0], "--out", "pushed.npz"])
        longer = judge_numbers(numbers).grade not in ("", GOOD)
        page = RunReport(
            title=f"A bridge from {' to '.join(bridged.populations)}",
            command=command_of(bridged, found.config, run.path, rounds),
            sketch=sketch,
            compared=" ".join([_followed(bridged, len(whole.states)), *_warnings(notes)]),
            numbers=numbers,
            notes=(*bridged.notes, *notes),
            settings=to_dict(found.config),
            curve=None,
            heading="Paths",
            pictures=pictures(run, bridged, crowd, found, whole, seen),
            next_steps=[
                (push, "push other members through the bridge"),
                onward(run, bridged, found.config, planned, rounds, sketch=bool(sketch), longer=longer),
            ],
        )
        write_report(run.path, page)
    tell.done()
    for line in (*_warnings(notes), *map(sentence, grown)):
        tell.say(line)
    return {**numbers, "report": str(run.path / "report.html")}


def _crossed(
    found: BridgeSolution,
    bridged: Bridged,
    crowd: Populations,
    n: int,
    tell: Callable[[float], None] = lambda share: None,
) -> tuple[Trajectories, Tensor]:
    """Push members of the first population through; return trajectories, and which members began them.

    Small states are kept at every step, so that no wall between two knots is missed.
    """
    first = crowd.states[0]
    weights = getattr(found.problem.populations[0][0], "weights", None)
    which = Population(first, weights).sample_indices(n, Rng(bridged.seed).fold_in("cross"))
    every = 1 if first[0].numel() <= MAX_DIM_LOGGED else None
    return found.transport(first[which], bridged.seed, every=every, on_progress=tell), which


def _outside(numbers: dict[str, Any]) -> list[str]:
    """Warn of paths through obstacles and of paths beyond a surface, where its planes are guessed."""
    warnings = {
        "inside_paths": "of the paths meet an obstacle: a smaller --noise, a higher cost or more rounds help",
        "outside_time": "of the time of all paths is outside the surface, where no point is near and its planes are"
        " guessed: points of a wider area, or a smaller --noise, help",
    }
    return [
        f"{WARNING}{format_percent(share)} {text}"
        for name, text in warnings.items()
        if (share := numbers.get(name) or 0.0) > MET
    ]


def _pieces(found: BridgeSolution) -> int:
    """Return how many pieces between knots the journey has."""
    return (found.config.control.mean_knots - 1) * len(found.problem.populations)


def _followed(bridged: Bridged, number: int) -> str:
    """Say what the numbers are about."""
    first, *between, last = bridged.populations
    met = [f"{name} at time {time:g}" for name, time in zip(between, bridged.times[1:], strict=False)]
    met.append(f"{last} at time {bridged.times[-1]:g}" if between else last)
    where = "where they are then is" if between else "their ends are"
    return f"Followed: {number:,} trajectories from members of {first}; {where} compared with members of" + (
        f" {', '.join(met)}."
    )


def _warnings(notes: Sequence[str]) -> list[str]:
    """Return those notes that warn, as sentences."""
    return [sentence(note) for note in notes if note.startswith(WARNING)]
