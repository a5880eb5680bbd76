"""The pictures of a bridge that is found: its paths as they move, what they cost, how the rounds went."""

import numpy as np
import torch
from torch import Tensor

from feller.app.workflows.bridges.bridge_run import Bridged
from feller.app.workflows.bridges.bridges_populations import Populations
from feller.app.workflows.bridges.cost_names import frame_of, surface_of
from feller.app.workflows.bridges.trajectory_files import values_of
from feller.control.bridges.costs import Sum, Zero
from feller.control.bridges.population import Crowd
from feller.control.bridges.problem import BridgeProblem
from feller.control.bridges.solution import FoundBridge
from feller.control.bridges.trajectories import Walk
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.data.images.modality import Images
from feller.evaluation.bridge import Along
from feller.evaluation.report.bridge_animation import film
from feller.evaluation.report.cost_plot import Passed, by_round, over_time
from feller.evaluation.report.figure import Picture
from feller.evaluation.report.motion import motion
from feller.evaluation.report.projection import Field, Scene, Walls, look
from feller.training.metrics_log import read_metrics


def pictures(
    run: Run,
    bridged: Bridged,
    crowd: Populations,
    found: FoundBridge,
    walked: Walk,
    seen: Along,
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
        Passed(
            number=int(row["step"]),
            backward=bool(row["backward"]),
            objective=row["objective"],
            w2=row.get("w2"),
            floor=row.get("w2_floor"),
        )
        for row in read_metrics(run.metrics)
    ]
    if rows:
        shown.append(("Rounds", by_round(rows)))
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
