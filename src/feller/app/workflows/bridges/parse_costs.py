"""Parse state costs, try them on the data, and check that a way exists."""

import itertools
import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from scipy.ndimage import label
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.workflows.bridges.bridge_run import Bridged
from feller.app.workflows.bridges.cost_names import (
    NAMES,
    PICTURES,
    SURFACES,
    check_kind,
    frame_at,
    frame_of,
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
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.user_code import is_code_reference, load_function
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import error_context
from feller.data.points.euclidean_points import Points
from feller.data.points.named_spaces import FLAT
from feller.evaluation.number_format import format_percent

PIXELS = 2048
"""Of the longer side of pictures, at most, in which ways through are looked for."""
UNEVEN = 0.05
"""Share of members who must change from one closed part of free space to another that is worth a warning, though
each part has members of both populations."""
WARNING = "warning: "
"""Begins a note of what is likely to be wrong."""


def closed(
    texts: Sequence[str],
    cost: StateCost,
    crowd: Populations,
    frame: tuple[float, ...],
    values: Callable[[Tensor], Tensor],
) -> list[str]:
    """Warn where members can become those of the next population through walls alone; states have `values`."""
    where = frame_of(texts, frame)
    if where is None or not cost.obstacles:
        return []
    notes, parts = [], _parts(texts, cost, crowd, where)
    for (before, a), (after, b) in itertools.pairwise(zip(crowd.names, crowd.states, strict=True)):
        share = _parted(parts, values(a), values(b), where)
        if share:
            notes.append(
                f"{WARNING}from {before} to {after} there is no way but through walls for {format_percent(share)} of the"
                " members; if there is a door, it must be lighter than middle grey, and a pixel wide at least"
            )
    return notes


def _parts(texts: Sequence[str], cost: StateCost, crowd: Populations, frame: Extent) -> Int[np.ndarray, "h w"]:
    """Number the parts of free space that no door joins, from 1, at the pixels within a frame; 0 is wall."""
    left, right, low, high = frame
    shapes = [read_grey(picture).shape for picture in pictures_of(texts)]
    h, w = (min(max(sides), PIXELS) for sides in zip(*shapes, strict=True))
    x, y = (a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in ((left, right, w), (low, high, h)))
    places = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
    states = crowd.modality.encode(places)
    return np.asarray(label(~cost.is_blocked(states).reshape(h, w).numpy())[0])


def _parted(parts: Int[np.ndarray, "h w"], a: Tensor, b: Tensor, frame: Extent) -> float:
    """Return the share of the members of a population that cannot be joined with another within parts of free space.

    Parts that have members of both, but not as many of each, count only where many are too many.
    """
    left, right, low, high = frame
    shares = []
    for x in (a, b):
        column, row = (
            ((x[:, k].double().numpy() - begin) / (end - begin) * n).astype(int).clip(0, n - 1)
            for k, (begin, end, n) in enumerate(((left, right, parts.shape[1]), (low, high, parts.shape[0])))
        )
        shares.append(np.bincount(parts[row, column], minlength=parts.max() + 1) / len(x))
    first, second = shares
    alone = (first[1:] * (second[1:] == 0)).sum() + (second[1:] * (first[1:] == 0)).sum()
    moved = float(np.abs(first - second)[1:].sum() / 2)
    return moved if alone or moved > UNEVEN else 0.0


HEIGHT = 50.0
"""What a width of depth in a wall costs, in mean squared distances of what is to be joined."""
EDGE = 0.005
"""Width of the edge of a wall, in diagonals of the picture."""
SHARP = 5.0
"""How much nearer points count for the planes of a surface."""
ON_SURFACE = 100.0
"""What a deviation of the populations off a surface costs, in mean squared distances of what is to be joined."""
LOW = 0.01
"""What the lowest place costs, in squared heights of the surface; the highest costs e^2 times as much."""


def price(texts: Sequence[str], crowd: Populations, frame: tuple[float, ...] = ()) -> tuple[StateCost, tuple[str, ...]]:
    """Return the sum of what a person says, and what was chosen about it.

    Args:
        texts: Each `file.py:FUNCTION`, a picture whose black is wall, `congestion`, `entropy`, `density`,
            `surface=FILE` or `valleys=FILE`, with `NUMBER *` before it or not.
        crowd: The populations, whose states are asked about.
        frame: Where a picture lies: left, right, bottom, top; by default one pixel is one unit.

    Raises:
        UsageError: If the words mean nothing, or nothing for such data.
        InputError: If a file of the user's is missing, or does not run.
    """
    cost: StateCost = Zero()
    notes: list[str] = []
    for text in texts:
        factor, name = split(text)
        one, told = _one(name, factor, crowd, frame)
        notes += told
        if factor is not None and factor < 0:
            notes.append(f"{text} pays for what {name} is to cost, by its factor below 0: paths seek it")
        cost = one if isinstance(cost, Zero) else cost + one
    return cost, (*notes, *closed(texts, cost, crowd, frame, _values(crowd.modality)))


def _one(name: str, factor: float | None, crowd: Populations, frame: tuple[float, ...]) -> tuple[StateCost, list[str]]:
    """Return one cost, with the factor that was given or one that suits it."""
    kind = crowd.modality
    if is_code_reference(name):
        function = load_function(name)
        images = kind.view(Images)
        shape = None if images is None else images.shape
        if shape is not None and CustomCost(function).needs_population:
            raise UsageError(
                f"{name} looks at the crowd, which costs of pictures do not see", remedy="Let it take (x, t)"
            )
        return _scaled(factor, InDataUnits(CustomCost(function, shape), _values(kind))), []
    if name == "congestion":
        return _scaled(factor, CongestionCost()), []
    if name == "entropy":
        return _scaled(factor, EntropyCost()), []
    if name == "density":
        chosen = _usual(crowd) if factor is None else factor
        points = DataDensityCost.fit(crowd.together.flatten(1), Rng(0).fold_in("density"))
        return chosen * points, _told(name, chosen, factor)
    if name.startswith(SURFACES):
        _need_columns(crowd, name, 3)
        surface, read_of = _surface(name)
        chosen = ON_SURFACE * _usual(crowd) / crowd.spread**2 if factor is None else factor
        return InDataUnits(chosen * surface, _values(kind)), [*read_of, *_told(name, chosen, factor)]
    if pathlib.Path(name).suffix.lower() in PICTURES:
        _need_columns(crowd, name, 2)
        walls = ImageWalls.from_image(read_grey(pathlib.Path(name)), frame_at(frame))
        chosen = HEIGHT * _usual(crowd) if factor is None else factor
        left, right, low, high = walls.extent
        width = EDGE * math.hypot(right - left, high - low)
        told = [f"the picture lies at x from {left:g} to {right:g}, y from {low:g} to {high:g}; outside is wall"]
        if factor is None:
            told.append(f"walls cost {chosen:.3g} for each {width:.3g} of depth (NUMBER * {name} for another cost)")
        return InDataUnits(SoftObstacle(walls, chosen, width), _values(kind)), told
    check_kind(name)
    raise UsageError.unknown_name(
        "cost",
        name.partition("=")[0],
        NAMES,
        alternatives=f", or file.py:FUNCTION, or a picture of walls ({', '.join(PICTURES)})",
    )


def _surface(name: str) -> tuple[SurfaceCost, list[str]]:
    """Return the squared distance to a surface, of valleys with what its height costs, and what was read."""
    kind, _, place = name.partition("=")
    data = read(place, space=FLAT)
    cloud, told = data.values.double(), [f"the surface {place} is {len(data):,} points", *data.notes]
    with error_context(place):
        surface = PointCloudSurface(cloud.numpy(), sharpness=SHARP)
    if kind == "surface":
        return SurfaceCost(surface), told
    extent = float(cloud[:, 2].amax() - cloud[:, 2].amin())
    return SurfaceCost(surface, LOW * extent**2, extent / 2), told


def _scaled(factor: float | None, cost: StateCost) -> StateCost:
    return cost if factor is None else factor * cost


def _usual(crowd: Populations) -> float:
    """Return the mean squared distance from the first population to the last: the order of what control costs."""
    a, b = crowd.states[0].flatten(1).double(), crowd.states[-1].flatten(1).double()
    spread = (a - a.mean(0)).square().sum(1).mean() + (b - b.mean(0)).square().sum(1).mean()
    return float((a.mean(0) - b.mean(0)).square().sum() + spread)


def _told(name: str, chosen: float, factor: float | None) -> list[str]:
    return [f"{chosen:.3g} * {name} was chosen, by the distances of what is to be joined"] if factor is None else []


def _need_columns(crowd: Populations, name: str, number: int) -> None:
    """Refuse a cost of places in so many dimensions for other data."""
    shape = tuple(crowd.states[0].shape[1:])
    if shape != (number,):
        what = "pictures" if len(shape) > 1 else f"{shape[0]} columns"
        raise UsageError(f"{name} is a cost of places with {number} coordinates, and the populations have {what}")


def _values(kind: Points | Images) -> Callable[[Tensor], Tensor]:
    """Return how flat states become flat values in the units of the data, with a gradient."""
    if (images := kind.view(Images)) is not None:
        return lambda x: images.decode_soft(x.reshape(-1, *images.shape)).reshape(*x.shape)
    if (points := kind.view(Points)) is not None and not any(points.mean):
        return lambda x: x
    return lambda x: kind.decode_soft(x.reshape(-1, x.shape[-1])).reshape(x.shape)


TRIED = 256
"""Places between populations where a cost is tried."""


def tried(cost: StateCost, bridged: Bridged, crowd: Populations, tell: Tell) -> StateCost:
    """Return the cost, once it is known to be a finite number there.

    Raises:
        InputError: If it is no finite number somewhere, or members stand in a wall.
    """
    for name, states, share in zip(bridged.populations, crowd.states, bridged.shares, strict=True):
        x = states.flatten(1)
        for inside in cost.obstacles:
            _refuse_stuck(name, states, inside(x), crowd)
        with error_context(name):
            cost = check(cost, x[None], x.new_tensor([[share]]), _crowded(x[None]))
    draws = Rng(bridged.seed).fold_in("trial")
    a, b = (Population(crowd.states[k])(TRIED, draws.fold_in(k)).flatten(1) for k in (0, -1))
    way = torch.linspace(0, 1, 9, dtype=a.dtype)[:, None]
    between = torch.lerp(a, b, way[..., None])
    cost = check(cost, between, way, _crowded(between))
    if not cost.differentiable:
        tell.say(
            "the cost has no gradient, so paths are not bent by it: trajectories are weighed by it instead (--resample)"
        )
    return cost


def _crowded(x: Tensor) -> PopulationDensity:
    """Return some crowd at each time, to try a cost with."""
    return PopulationDensity(x.roll(1, 1), x, 1.0)


def _refuse_stuck(name: str, states: Tensor, inside: Tensor, crowd: Populations) -> None:
    """Refuse members inside an obstacle."""
    stuck = inside.nonzero()[:, 0]
    if len(stuck):
        place = crowd.modality.decode(states[stuck[:1]]).flatten()[:4].tolist()
        raise InputError(
            f"member {int(stuck[0]) + 1} at ({', '.join(f'{entry:.4g}' for entry in place)}) is inside an obstacle,"
            f" where no path may begin or end, as are {len(stuck)} of {len(states):,}: move them, or move the"
            " obstacle (--frame, for a picture)",
            place=name,
        )
