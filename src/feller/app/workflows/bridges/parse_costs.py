"""Parsing of state costs from text, trial evaluation of a cost on the data, and check for regions closed by walls."""

import itertools
import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from scipy.ndimage import label
from torch import Tensor

from feller.app.reporter import Reporter
from feller.app.workflows.bridges.bridge_run import BridgeRecord
from feller.app.workflows.bridges.cost_specs import (
    COST_NAMES,
    PICTURES,
    SURFACE_PREFIXES,
    check_kind,
    common_frame,
    frame_at,
    pictures_of,
    split,
)
from feller.app.workflows.bridges.populations import Populations
from feller.control.bridges.costs import CustomCost, PopulationDensity, StateCost, Zero, check
from feller.control.bridges.costs.congestion import CongestionCost, EntropyCost
from feller.control.bridges.costs.near_data import DataDensityCost
from feller.control.bridges.costs.obstacles import SoftObstacle
from feller.control.bridges.costs.surface_cost import PointCloudSurface, SurfaceCost
from feller.control.bridges.costs.unit_conversion import InDataUnits
from feller.control.bridges.costs.walls import Extent, ImageWalls, read_grey
from feller.control.bridges.population import Population
from feller.core.errors import InputError, UsageError, error_context
from feller.core.rng import Rng
from feller.core.user_code import is_code_reference, load_function
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.points.euclidean_points import Points
from feller.data.points.named_spaces import FLAT
from feller.evaluation.number_format import format_percent

PIXELS = 2048
"""Maximum height, and maximum width, in pixels of the grid on which the search for openings in walls is done."""
MAX_IMBALANCE = 0.05
"""Fraction of samples that would have to cross a wall between closed regions, above which a warning is shown.

This tolerance applies only if each region has samples of both populations.
"""
WARNING = "warning: "
"""Prefix that marks a note as a warning."""


def closed_way_warnings(
    texts: Sequence[str],
    cost: StateCost,
    populations: Populations,
    frame: tuple[float, ...],
    values: Callable[[Tensor], Tensor],
) -> list[str]:
    """Return warnings about samples that cannot reach the next population without crossing a wall.

    Args:
        texts: State costs as texts.
        cost: Sum of the state costs.
        populations: Populations of the bridge.
        frame: Extent of the wall image: left, right, bottom, top.
        values: Function that converts states to data units.
    """
    extent = common_frame(texts, frame)
    if extent is None or not cost.obstacles:
        return []
    notes, components = [], _free_components(texts, cost, populations, extent)
    for (source, a), (target, b) in itertools.pairwise(zip(populations.names, populations.states, strict=True)):
        fraction = _unmatched_fraction(components, values(a), values(b), extent)
        if fraction:
            notes.append(
                f"{WARNING}from {source} to {target}, {format_percent(fraction)} of the samples can only pass through"
                " walls; an opening must be at least one pixel wide and lighter than middle grey"
            )
    return notes


def _free_components(
    texts: Sequence[str], cost: StateCost, populations: Populations, frame: Extent
) -> Int[np.ndarray, "h w"]:
    """Label the connected components of free space on the pixels of the frame, from 1; 0 is inside walls."""
    left, right, low, high = frame
    shapes = [read_grey(path).shape for path in pictures_of(texts)]
    h, w = (min(max(sides), PIXELS) for sides in zip(*shapes, strict=True))
    x, y = (a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in ((left, right, w), (low, high, h)))
    points = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
    states = populations.modality.encode(points)
    return np.asarray(label(~cost.is_blocked(states).reshape(h, w).numpy())[0])


def _unmatched_fraction(components: Int[np.ndarray, "h w"], a: Tensor, b: Tensor, frame: Extent) -> float:
    """Return the fraction of samples that have no counterpart in the same component of free space.

    If every component has samples of both populations, an imbalance up to `MAX_IMBALANCE` is ignored.
    """
    left, right, low, high = frame
    fractions = []
    for x in (a, b):
        column, row = (
            ((x[:, k].double().numpy() - begin) / (end - begin) * n).astype(int).clip(0, n - 1)
            for k, (begin, end, n) in enumerate(((left, right, components.shape[1]), (low, high, components.shape[0])))
        )
        fractions.append(np.bincount(components[row, column], minlength=components.max() + 1) / len(x))
    p_a, p_b = fractions
    unpaired = (p_a[1:] * (p_b[1:] == 0)).sum() + (p_b[1:] * (p_a[1:] == 0)).sum()
    imbalance = float(np.abs(p_a - p_b)[1:].sum() / 2)
    return imbalance if unpaired or imbalance > MAX_IMBALANCE else 0.0


HEIGHT = 50.0
"""Cost added inside a wall for each edge width of depth, divided by the mean squared distance between populations."""
EDGE = 0.005
"""Width of the soft edge of a wall, as a fraction of the image diagonal."""
SHARP = 5.0
"""Sharpness of the distance weights in the plane fits that define a surface; larger is more local."""
ON_SURFACE = 100.0
"""Cost at a distance of one population standard deviation from a surface, divided by the mean squared distance between
the populations."""
LOW = 0.01
"""Cost of height at the lowest point of a surface, divided by its squared height range; at the highest point it is
e^2 times as high. The bridge thus prefers valleys."""


def parse_costs(
    texts: Sequence[str], populations: Populations, frame: tuple[float, ...] = ()
) -> tuple[StateCost, tuple[str, ...]]:
    """Parse state costs from text; return their sum, and notes on default choices.

    Args:
        texts: Costs: `file.py:FUNCTION`, an image with black walls, `congestion`, `entropy`, `density`, `surface=FILE`
            or `valleys=FILE`, optionally after `NUMBER *`.
        populations: Populations of the bridge.
        frame: Extent of a wall image: left, right, bottom, top; default: one unit per pixel.

    Raises:
        UsageError: If a cost is unknown or does not apply to the data.
        InputError: If a file is missing, or user code fails.
    """
    cost: StateCost = Zero()
    notes: list[str] = []
    for text in texts:
        factor, name = split(text)
        term, term_notes = _one(name, factor, populations, frame)
        notes += term_notes
        if factor is not None and factor < 0:
            notes.append(f"{text} has a negative factor, so paths are attracted by {name}")
        cost = term if isinstance(cost, Zero) else cost + term
    return cost, (*notes, *closed_way_warnings(texts, cost, populations, frame, _values(populations.modality)))


def _one(
    name: str, factor: float | None, populations: Populations, frame: tuple[float, ...]
) -> tuple[StateCost, list[str]]:
    """Return the state cost that `name` stands for, times `factor` or a default factor, and notes for the user."""
    modality = populations.modality
    if is_code_reference(name):
        function = load_function(name)
        images = modality.view(Images)
        shape = None if images is None else images.shape
        if shape is not None and CustomCost(function).needs_population:
            raise UsageError(
                f"{name} takes the argument `population`, which a cost of images cannot use",
                remedy="Use the arguments (x, t)",
            )
        return _scaled(factor, InDataUnits(CustomCost(function, shape), _values(modality))), []
    if name == "congestion":
        return _scaled(factor, CongestionCost()), []
    if name == "entropy":
        return _scaled(factor, EntropyCost()), []
    if name == "density":
        weight = _usual(populations) if factor is None else factor
        density = DataDensityCost.fit(populations.all_states.flatten(1), Rng(0).fold_in("density"))
        return weight * density, _choice_note(name, weight, factor)
    if name.startswith(SURFACE_PREFIXES):
        _need_columns(populations, name, 3)
        surface, surface_notes = _surface(name)
        weight = ON_SURFACE * _usual(populations) / populations.spread**2 if factor is None else factor
        return InDataUnits(weight * surface, _values(modality)), [*surface_notes, *_choice_note(name, weight, factor)]
    if pathlib.Path(name).suffix.lower() in PICTURES:
        _need_columns(populations, name, 2)
        walls = ImageWalls.from_image(read_grey(pathlib.Path(name)), frame_at(frame))
        weight = HEIGHT * _usual(populations) if factor is None else factor
        left, right, low, high = walls.extent
        edge_width = EDGE * math.hypot(right - left, high - low)
        term_notes = [f"the image covers x from {left:g} to {right:g}, y from {low:g} to {high:g}; outside is wall"]
        if factor is None:
            term_notes.append(
                f"walls cost {weight:.3g} for each {edge_width:.3g} of depth (NUMBER * {name} for another cost)"
            )
        return InDataUnits(SoftObstacle(walls, weight, edge_width), _values(modality)), term_notes
    check_kind(name)
    raise UsageError.unknown_name(
        "cost",
        name.partition("=")[0],
        COST_NAMES,
        alternatives=f", or file.py:FUNCTION, or a wall image ({', '.join(PICTURES)})",
    )


def _surface(name: str) -> tuple[SurfaceCost, list[str]]:
    """Return the state cost of a surface file, `surface=FILE` or `valleys=FILE`, and notes for the user.

    It is the distance to the surface; `valleys` adds a cost of height.
    """
    prefix, _, path = name.partition("=")
    data = read(path, space=FLAT)
    cloud, surface_notes = data.values.double(), [f"the surface {path} has {len(data):,} points", *data.notes]
    with error_context(path):
        surface = PointCloudSurface(cloud.numpy(), sharpness=SHARP)
    if prefix == "surface":
        return SurfaceCost(surface), surface_notes
    extent = float(cloud[:, 2].amax() - cloud[:, 2].amin())
    return SurfaceCost(surface, LOW * extent**2, extent / 2), surface_notes


def _scaled(factor: float | None, cost: StateCost) -> StateCost:
    return cost if factor is None else factor * cost


def _usual(populations: Populations) -> float:
    """Return the mean squared distance of a sample of the first population from one of the last.

    State costs are scaled by it, because the control cost has this scale.
    """
    a, b = populations.states[0].flatten(1).double(), populations.states[-1].flatten(1).double()
    spread = (a - a.mean(0)).square().sum(1).mean() + (b - b.mean(0)).square().sum(1).mean()
    return float((a.mean(0) - b.mean(0)).square().sum() + spread)


def _choice_note(name: str, weight: float, factor: float | None) -> list[str]:
    return [f"{weight:.3g} * {name} was chosen from the distances between the populations"] if factor is None else []


def _need_columns(populations: Populations, name: str, dim: int) -> None:
    """Raise an error if states do not have the required number of coordinates."""
    shape = tuple(populations.states[0].shape[1:])
    if shape != (dim,):
        found = "images" if len(shape) > 1 else f"{shape[0]} columns"
        raise UsageError(f"{name} needs points with {dim} coordinates; the populations have {found}")


def _values(modality: Points | Images) -> Callable[[Tensor], Tensor]:
    """Return the differentiable map from flattened states to flattened values in data units."""
    if (images := modality.view(Images)) is not None:
        return lambda x: images.decode_soft(x.reshape(-1, *images.shape)).reshape(*x.shape)
    if (points := modality.view(Points)) is not None and not any(points.mean):
        return lambda x: x
    return lambda x: modality.decode_soft(x.reshape(-1, x.shape[-1])).reshape(x.shape)


TRIAL_PLACES = 256
"""Number of points between the first and last population at which a cost is evaluated as a trial."""


def check_cost(cost: StateCost, record: BridgeRecord, populations: Populations, reporter: Reporter) -> StateCost:
    """Evaluate a state cost on the populations and between them, and return the cost to use in its place.

    In the returned cost, a function without a usable gradient is marked as not `differentiable`.

    Args:
        cost: State cost to check.
        record: Recorded options of the bridge: names and times of the populations, and seed.
        populations: Populations, whose samples must not be inside an obstacle.
        reporter: Reporter that logs if the cost has no gradient.

    Raises:
        InputError: If the cost is not finite on the data, or samples are inside an obstacle.
    """
    for name, states, relative_time in zip(record.populations, populations.states, record.relative_times, strict=True):
        x = states.flatten(1)
        for obstacle in cost.obstacles:
            _refuse_blocked(name, states, obstacle(x), populations)
        with error_context(place=f"the cost at samples of {name}"):
            cost = check(cost, x[None], x.new_tensor([[relative_time]]), _trial_population(x[None]))
    rng = Rng(record.seed).fold_in("trial")
    a, b = (Population(populations.states[k])(TRIAL_PLACES, rng.fold_in(k)).flatten(1) for k in (0, -1))
    t = torch.linspace(0, 1, 9, dtype=a.dtype)[:, None]
    interpolated = torch.lerp(a, b, t[..., None])
    cost = check(cost, interpolated, t, _trial_population(interpolated))
    if not cost.differentiable:
        reporter.log(
            "the cost has no gradient: paths are not optimised for it, trajectories are resampled by it (--resample)"
        )
    return cost


def _trial_population(x: Tensor) -> PopulationDensity:
    """Return a kernel density of the states at each time, for the trial of a cost."""
    return PopulationDensity(x.roll(1, 1), x, 1.0)


def _refuse_blocked(name: str, states: Tensor, mask: Tensor, populations: Populations) -> None:
    """Raise InputError if samples of a population, `states`, are inside the obstacle `name`, as `mask` states."""
    blocked = mask.nonzero()[:, 0]
    if len(blocked):
        point = populations.modality.decode(states[blocked[:1]]).flatten()[:4].tolist()
        raise InputError(
            f"sample {int(blocked[0]) + 1} at ({', '.join(f'{entry:.4g}' for entry in point)}) is inside an obstacle"
            f" ({len(blocked)} of {len(states):,} samples are); paths cannot start or end there. Move the samples or"
            " the obstacle (a wall image is moved with --frame)",
            place=name,
        )
