"""What a finished bridge leaves in its run folder: paths, pairs, numbers and a page to look at."""

import datetime
import platform
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feller import __version__
from feller.bridging import BridgeProblem, FoundBridge
from feller.control.bridges.crowd import Crowd
from feller.control.bridges.gaussian import GaussianPaths
from feller.control.bridges.in_leg import InLeg
from feller.control.bridges.path_integral import PathIntegral
from feller.control.bridges.walk import Walk, legs_of
from feller.control.costs import Sum, Zero
from feller.couplings.transport import assign
from feller.data.images.modality import Images
from feller.draws import Draws
from feller.evaluate.bridge import EXPLAIN, Along, along, arrival, explain_between
from feller.journeys.bridges.bridged import Bridged, command_of
from feller.journeys.bridges.cost_words import frame_of, surface_of
from feller.journeys.bridges.populations import Populations
from feller.journeys.bridges.trajectories import values_of, write_paths
from feller.journeys.bridges.ways_through import WARNING
from feller.journeys.tell import Tell
from feller.record import to_data
from feller.report.film import film
from feller.report.motion import motion
from feller.report.page import Findings, write_report
from feller.report.passage import Passed, by_round, over_time
from feller.report.pictures import Picture
from feller.report.view import Field, Scene, Walls, look
from feller.report.wording import percent, sentence
from feller.run import Run
from feller.train.engine import engine
from feller.train.metrics import read_metrics

LEAST, MOST = 500, 2000
"""Trajectories that are followed for files and page, where the first population has fewer or more members."""
COMPARED, WEIGHED = 32, 100
"""Pairs whose trajectories are weighed, and how many of each."""
STEPS, ROOM = 150, 2**28
"""Steps of such trajectories, and bytes that they may take."""
SMALL = 16
"""Numbers of a state up to which all steps of trajectories are looked at."""
STRAIGHT = 500
"""Pairs of the plain bridge that the one found is compared with."""
MET = 0.05
"""Share of the paths that may meet an obstacle before people are warned."""


def report_bridge(
    run: Run, bridged: Bridged, crowd: Populations, found: FoundBridge, notes: tuple[str, ...], tell: Tell
) -> dict[str, Any]:
    """Follow trajectories from the first population to the last, write files and the page.

    Returns:
        The numbers of the page, and where it is under `report`.
    """
    tell.task("following trajectories")
    whole, which = _crossed(found, bridged, crowd)
    draws, between = Draws(bridged.seed).named("report"), (len(whole.times) - 1) // _pieces(found)
    seen = along(whole.times, whole.states.flatten(2), whole.control.flatten(2), found.problem.cost, draws)
    walked = Walk(whole.times[::between], whole.states[:, ::between], whole.control[:, ::between], whole.lost)
    numbers: dict[str, Any] = {**_arrivals(walked, found.problem, bridged, draws), **seen.averages()}
    numbers["objective_straight"] = _straight(found.problem, crowd, walked, draws)
    numbers |= {"ess": _ess(found, walked, draws), **_rounds(run), "sigma": bridged.noise, "n": len(walked.states)}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    notes = (*notes, *_met(numbers, notes))
    if engine().is_first:
        write_paths(run, bridged, crowd.modality, walked, which, crowd.states)
        tell.task("drawing")
        write_report(run.path, _findings(run, bridged, crowd, found, whole, seen, numbers, notes))
    tell.done()
    for warning in _warnings(notes):
        tell.say(warning)
    return {**numbers, "report": str(run.path / "report.html")}


def _crossed(found: FoundBridge, bridged: Bridged, crowd: Populations) -> tuple[Walk, Tensor]:
    """Push members of the first population through; return trajectories, and which members began them.

    Small states are kept at every step, so that no wall between two knots is missed.
    """
    first = crowd.states[0]
    number = min(max(len(first), LEAST), MOST)
    weights = getattr(found.problem.crowds[0][0], "weights", None)
    which = Crowd(first, weights).choose(number, Draws(bridged.seed).named("cross"))
    every = 1 if first[0].numel() <= SMALL else None
    return found.walk(first[which], bridged.seed, every=every), which


def _met(numbers: dict[str, Any], notes: Sequence[str]) -> list[str]:
    """Warn of paths that meet an obstacle, with advice where there is a way around it."""
    share, time = numbers.get("inside_paths") or 0.0, numbers.get("inside_time") or 0.0
    if share <= MET:
        return []
    told = f"{WARNING}{percent(share)} of the paths meet a wall; {percent(time)} of the time of all paths is in walls"
    advice = (
        ": wider doors, a smaller --noise, a higher price of walls (NUMBER * before the picture) or more rounds help"
    )
    return [told if any(note.startswith(WARNING) for note in notes) else told + advice]


def _pieces(found: FoundBridge) -> int:
    """Return how many pieces between knots the journey has."""
    return (found.how.control.mean_knots - 1) * len(found.problem.crowds)


def _arrivals(walked: Walk, problem: BridgeProblem, bridged: Bridged, draws: Draws) -> dict[str, float | None]:
    """Compare where trajectories are with each population that they should have become."""
    numbers: dict[str, float | None] = {}
    for leg, (begin, length) in enumerate(legs_of(problem.times)):
        place = int(np.argmin(np.abs(np.array(walked.times) - (begin + length))))
        met = arrival(walked.states[:, place].flatten(1), end_of(problem, leg), draws.named("met", leg))
        when = "" if leg == len(problem.crowds) - 1 else f"_{bridged.times[leg + 1]:g}"
        floors = {name: "_floor" if name.endswith("_floor") else "" for name in met}
        numbers |= {f"{name.removesuffix(floors[name])}{when}{floors[name]}": value for name, value in met.items()}
    return numbers


def end_of(problem: BridgeProblem, leg: int, *, backward: bool = False) -> Crowd:
    """Return the population where a leg ends, or, backward, where it begins."""
    crowd = problem.crowds[leg][not backward]
    if not isinstance(crowd, Crowd):
        raise TypeError("a run is of populations that are known by members")
    return crowd


def _straight(problem: BridgeProblem, crowd: Populations, walked: Walk, draws: Draws) -> float | None:
    """Return the objective of plain Brownian bridges between members paired at the least distance."""
    total = 0.0
    for leg, (begin, length) in enumerate(legs_of(problem.times)):
        size = min(STRAIGHT, *map(len, crowd.states[leg : leg + 2]))
        x_0, x_1 = (
            Crowd(x)(size, draws.named("straight", leg, k)).flatten(1)
            for k, x in enumerate(crowd.states[leg : leg + 2])
        )
        x_0 = x_0[assign(x_0, x_1)]
        paths = GaussianPaths.straight(x_0, x_1, problem.noise * length**0.5, 2, 2)
        t = torch.linspace(0, 1, 29, dtype=x_0.dtype)
        moments = paths.grid(t)
        z = draws.at("straight", leg).normal(tuple(moments.mean.shape), x_0.dtype)
        states = moments.mean + moments.std[..., None] * z
        control = ((x_1 - x_0) / length)[:, None].expand(states.shape)
        times = [begin + length * share for share in t.tolist()]
        averages = along(times, states, control, problem.cost, draws.named("cost", leg)).averages()
        total += length * (averages["objective"] or 0.0)
    return total


def _ess(found: FoundBridge, walked: Walk, draws: Draws) -> float | None:
    """Return which share of the trajectories of pinned paths counts; None without noise or cost, or with a crowd."""
    problem, how = found.problem, found.how
    if not problem.noise or isinstance(problem.cost, Zero) or problem.cost.crowd:
        return None
    shares, knots = [], how.control.mean_knots
    pairs = min(COMPARED, ROOM // (4 * WEIGHED * (STEPS + 1) * walked.states[0, 0].numel()))
    if not pairs:
        return None
    for leg, (begin, length) in enumerate(legs_of(problem.times)):
        states = walked.states[:pairs, leg * (knots - 1) : (leg + 1) * (knots - 1) + 1].flatten(2)
        cost = InLeg(problem.cost, begin, length)
        paths = GaussianPaths.along(states, problem.noise * length**0.5, how.control.scale_knots)
        paths, _ = how.control.solve(paths, cost, draws.named("pinned", leg))
        weighted = PathIntegral(trajectories=WEIGHED, steps=STEPS).weigh(paths, cost, draws.named("weigh", leg))
        shares.append(float(weighted.ess.mean()) / WEIGHED)
    return min(shares)


def _rounds(run: Run) -> dict[str, float]:
    """Return what the rounds took."""
    rows = read_metrics(run.metrics)
    last = rows[-1] if rows else {}
    return {
        "lost": max((row.get("lost", 0.0) for row in rows), default=0.0),
        "rounds": len(rows),
        "seconds": last.get("seconds", 0.0),
    }


def _findings(
    run: Run,
    bridged: Bridged,
    crowd: Populations,
    found: FoundBridge,
    walked: Walk,
    seen: Along,
    numbers: dict[str, Any],
    notes: tuple[str, ...],
) -> Findings:
    """Put together what the page shows."""
    push = shlex.join(["feller", "sample", str(run.path), "--from", bridged.populations[0], "--out", "pushed.npz"])
    longer = shlex.join(["feller", "bridge", "--resume", "--out", str(run.path), *bridged.costs_again, "--rounds"])
    rounds = len(read_metrics(run.metrics))
    between = bridged.times[1:-1]
    explained = {name: text for time in between for name, text in explain_between(time).items()}
    return Findings(
        title=f"A bridge from {' to '.join(bridged.populations)}",
        command=command_of(bridged, found.how, run),
        made=datetime.datetime.now(datetime.UTC).date().isoformat(),
        judged=" ".join([_followed(bridged, len(walked.states)), *_warnings(notes)]),
        numbers=numbers,
        explanations={**EXPLAIN, **OWN, **explained},
        missing=_unknown(bridged),
        notes=(*bridged.notes, *notes),
        settings=to_data(found.how),
        curve=None,
        seen="Paths",
        pictures=_pictures(run, bridged, crowd, found, walked, seen, numbers),
        next_steps=[
            (push, "push others through"),
            (f"{longer} {rounds + 4}", "go on for four more rounds"),
        ],
        versions={"feller": __version__, "torch": torch.__version__, "python": platform.python_version()},
    )


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


def _unknown(bridged: Bridged) -> dict[str, str]:
    """Say why distances between real members are not told where these count unlike."""
    if bridged.growth is None:
        return {}
    whens = ["", *(f"_{time:g}" for time in bridged.times[1:-1])]
    why = "members count unlike by --growth, so they have no distance among themselves"
    return {f"{name}{when}_floor": why for name in ("w2", "sinkhorn") for when in whens}


OWN = {
    "objective_straight": "The objective of plain Brownian bridges between members paired at the least distance, which"
    " do not mind the cost.",
    "ess": "Of the trajectories around the path of a pair, the share that still counts once each is weighed by what it"
    " costs (effective sample size). From about 30 % there is nothing to do. 5 to 30 % is usual beside walls: the best"
    " paths are of another shape than these, and --resample 64 learns from weighed trajectories instead. Below, few"
    " trajectories carry all the weight: more noise (--noise) or a softer cost (a smaller NUMBER *) raise it.",
    "lost": "Share of the trajectories that ran away and were drawn anew, in the worst round.",
    "sigma": "Deviation of a free walk after the whole journey, in units of the data.",
}
"""What numbers of our own mean, for people."""


def _pictures(
    run: Run,
    bridged: Bridged,
    crowd: Populations,
    found: FoundBridge,
    walked: Walk,
    seen: Along,
    numbers: dict[str, Any],
) -> list[tuple[str, Picture]]:
    """Draw paths as they move, what they cost along time, and how the rounds went."""
    begin, end = bridged.times[0], bridged.times[-1]
    times = begin + (end - begin) * np.array(walked.times)
    paths = values_of(crowd.modality, walked.states)
    if isinstance(crowd.modality, Images):
        shown: list[tuple[str, Picture]] = [
            ("Pictures on their way", film(_colours(paths), [f"{time:.3g}" for time in times]))
        ]
    else:
        scene = Scene(
            times=times,
            paths=paths,
            populations=[values_of(crowd.modality, some[:, None])[:, 0] for some in map(_some, crowd.states)],
            names=bridged.populations,
            columns=crowd.modality.columns,
            seen=bridged.times,
            field=_field(found.problem, crowd),
            walls=_walls(found.problem, crowd),
            frame=frame_of(bridged.costs, bridged.frame),
            surface=_surface(bridged, crowd),
        )
        shown = [(f"Paths from one population to the next. {look(scene).said}".strip(), motion(scene))]
    curves = {"control": seen.control.numpy(), "state cost": seen.state.numpy()}
    if isinstance(found.problem.cost, Zero):
        del curves["state cost"]
    shown.append(("What paths cost along time", over_time(begin + (end - begin) * seen.times.numpy(), curves)))
    rows = [
        Passed(number=int(row["step"]), backward=bool(row["backward"]), objective=row["objective"], w2=row.get("w2"))
        for row in read_metrics(run.metrics)
    ]
    if rows:
        floors = [value for name, value in numbers.items() if name.startswith("w2") and name.endswith("_floor")]
        shown.append(("Rounds", by_round(rows, max(floors, default=None))))
    return shown


def _some(members: Tensor) -> Tensor:
    """Return members in an order that does not depend on that of their file, of which the first are drawn."""
    return members[Crowd(members).choose(len(members), Draws(0).named("drawn"))]


def _colours(paths: np.ndarray) -> np.ndarray:
    """Return pictures with a last axis of colours and 256 levels."""
    whole = paths if paths.ndim == 5 else paths[..., None]
    top = whole.max() or 1
    return (whole.astype(np.float64) * (255 / top)).clip(0, 255).round().astype(np.uint8)


def _is_plane(crowd: Populations) -> bool:
    return tuple(crowd.states[0].shape[1:]) == (2,)


def _field(problem: BridgeProblem, crowd: Populations) -> Field | None:
    """Return what places in the plane cost in the middle of the journey, but for obstacles and what the crowd costs."""
    parts = problem.cost.parts if isinstance(problem.cost, Sum) else (problem.cost,)
    costs = [part for part in parts if not (isinstance(part, Zero) or part.crowd or part.obstacles)]
    if not costs or not _is_plane(crowd):
        return None

    def field(places: np.ndarray) -> np.ndarray:
        x = crowd.modality.encode(torch.from_numpy(places))
        with torch.no_grad():
            found = torch.stack([cost(x[None], x.new_tensor([[0.5]]))[0] for cost in costs])
        return found.sum(0).double().numpy()

    return field


def _walls(problem: BridgeProblem, crowd: Populations) -> Walls | None:
    """Return whether places in the plane are inside an obstacle."""
    if not problem.cost.obstacles or not _is_plane(crowd):
        return None

    def walls(places: np.ndarray) -> np.ndarray:
        x = crowd.modality.encode(torch.from_numpy(places))
        return problem.cost.blocked(x).numpy()

    return walls


def _surface(bridged: Bridged, crowd: Populations) -> np.ndarray | None:
    """Return the points of a surface that paths keep to."""
    found = surface_of(bridged.costs) if tuple(crowd.states[0].shape[1:]) == (3,) else None
    return None if found is None else found.numpy()
