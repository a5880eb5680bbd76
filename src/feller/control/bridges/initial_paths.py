"""Path planning around obstacles in the plane: initial means of the pinned paths."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from feller.control.bridges.costs import StateCost

NODES = 96
"""Number of grid nodes along the longer side of the grid."""
SUBCELLS = 4
"""Number of subdivisions of a grid cell for evaluating the cost, so that walls thinner than a cell are detected."""
MARGIN = 0.5
"""Margin of the grid around the endpoints, as a fraction of the largest extent of the endpoints."""
MAX_SOURCES = 64
"""Maximum number of source nodes for Dijkstra's algorithm; nearby start points are merged."""
POINTS = 129
"""Number of points per path during the shortening of paths."""
SMOOTHING_PASSES = 12
"""Number of passes of the moving average over the points of a path."""
MOVES = [(a, b) for a, b in itertools.product(range(3), range(-2, 3)) if math.gcd(a, b) == 1 and (a, b) > (0, 0)]
"""Grid steps to the 16 neighbours of a node; of two opposite steps, only one is listed."""
Array = NDArray[np.float64]
Toll = Callable[[Array], Array]
"""Function from positions [*b, 2] to the action per unit length, [*b]."""


def plan_path(
    x_0: Float[Tensor, "n 2"], x_1: Float[Tensor, "n 2"], cost: StateCost, knots: int, t: float = 0.5
) -> Float[Tensor, "n k 2"] | None:
    """Plan paths of approximately least action between endpoint pairs; return their states at equally spaced times.

    By Maupertuis' principle, a minimiser of int 1/2 |v|^2 + V dt with energy E minimises int sqrt(2 (E + V)) dl, at
    speed sqrt(2 (E + V)). Here E is the energy of straight lines. Paths with few knots cannot go faster inside a wall,
    so the length is weighted by (2 E + V) / sqrt(2 E) instead, which is equal to first order in V. Dijkstra's algorithm
    on a grid finds the paths, which are then shortened. A pair keeps its straight line if the planned path is not
    better or if no path exists.

    Args:
        x_0: Start points, which the paths meet exactly.
        x_1: End points, which the paths meet exactly.
        cost: State cost V, which may be infinite inside walls.
        knots: Number of states per path, both ends included.
        t: Time at which V is evaluated.

    Returns:
        States of the paths; None if the cost depends on the population or is constant.
    """
    if cost.needs_population:
        return None
    begins, ends = x_0.detach().double().cpu().numpy(), x_1.detach().double().cpu().numpy()
    energy = max(float(np.square(ends - begins).sum(1).mean()) / 2, 1e-12)

    def toll(places: Array) -> Array:
        return (2 * energy + _values(cost, places, t, x_0)) / math.sqrt(2 * energy)

    low, cell, shape = _grid(np.concatenate([begins, ends]))
    fine = toll(low + cell / SUBCELLS * np.moveaxis(np.indices([SUBCELLS * (k - 1) + 1 for k in shape]), 0, -1))
    if fine.min() == fine.max():
        return None
    paths = _shortest_paths(begins, ends, _graph(fine, cell, shape), toll, low, cell, shape)
    straight = _straight_lines(begins, ends)
    paths = _cheaper_of(paths, straight, toll)
    for turn in range(2):
        paths = _shortcut(paths, toll, shifted=bool(turn))
    paths = _cheaper_of(_smooth_corners(paths), paths, toll)
    timed = _resample_by_time(paths, lambda places: np.sqrt(2 * (energy + _values(cost, places, t, x_0))), knots)
    timed[:, 0], timed[:, -1] = begins, ends
    found = torch.from_numpy(timed).to(x_0)
    found[:, 0], found[:, -1] = x_0, x_1
    return found


def _values(cost: StateCost, places: Array, t: float, like: Tensor) -> Array:
    """Return V at positions [*b, 2], clamped to at least 0; NaN counts as a wall."""
    parts = []
    with torch.no_grad():
        for part in torch.from_numpy(places.reshape(-1, 2)).split(1 << 18):
            rows = part.to(like)[None]
            parts.append(cost(rows, torch.full((1, 1), t, dtype=like.dtype, device=like.device))[0].double().cpu())
    return torch.cat(parts).nan_to_num(nan=math.inf, posinf=math.inf).clamp(min=0).numpy().reshape(places.shape[:-1])


def _grid(places: Array) -> tuple[Array, float, tuple[int, int]]:
    """Return the lower corner, cell size and shape of a grid around positions."""
    low, high = places.min(0), places.max(0)
    room = MARGIN * max((high - low).max(), 1e-9)
    extent = high - low + 2 * room
    cell = extent.max() / (NODES - 1)
    along, across = (int(k) + 1 for k in np.ceil(extent / cell - 1e-9))
    return low - room, cell, (along, across)


def _graph(fine: Array, cell: float, shape: tuple[int, int]) -> csr_matrix:
    """Return the graph of grid steps, weighted by length times the maximum action on the step."""
    worst, number = maximum_filter(fine, 3), np.arange(shape[0] * shape[1]).reshape(shape)
    origins, targets, actions = [], [], []
    for a, b in MOVES:
        rows, columns = np.arange(shape[0] - a), np.arange(max(0, -b), shape[1] - max(0, b))
        worst_on_step = np.stack(
            [worst[np.ix_(rows * SUBCELLS + a * k, columns * SUBCELLS + b * k)] for k in range(SUBCELLS + 1)]
        ).max(0)
        origins.append(number[np.ix_(rows, columns)].ravel())
        targets.append(number[np.ix_(rows + a, columns + b)].ravel())
        actions.append(cell * math.hypot(a, b) * worst_on_step.ravel())
    start, stop, action = map(np.concatenate, (origins, targets, actions))
    open_ = np.isfinite(action)
    return csr_matrix((action[open_], (start[open_], stop[open_])), shape=(number.size, number.size))


def _shortest_paths(
    begins: Array, ends: Array, graph: csr_matrix, toll: Toll, low: Array, cell: float, shape: tuple[int, int]
) -> Array:
    """Return the shortest paths on the grid, [n, POINTS, 2]; straight lines where none exists."""
    first, last = (_nodes(places, toll, low, cell, shape) for places in (begins, ends))
    turned = len(np.unique(last)) < len(np.unique(first))
    if turned:
        first, last = last, first
    first = _merge_sources(first, shape)
    origins, origin_index = np.unique(first, return_inverse=True)
    action, before = dijkstra(graph, directed=False, indices=origins, return_predecessors=True)
    found = []
    for begin, end, origin, node in zip(begins, ends, origin_index, last, strict=True):
        passed = []
        if np.isfinite(action[origin, node]):
            while node >= 0:
                passed.append(node)
                node = before[origin, node]
        places = low + cell * np.stack(np.unravel_index(np.array(passed, int), shape), -1)
        places = places if turned else places[::-1]
        found.append(_by_length(np.concatenate([begin[None], places, end[None]])))
    return np.stack(found)


def _nodes(places: Array, toll: Toll, low: Array, cell: float, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the cheapest grid node for each position, among the nine around it."""
    near = np.rint((places - low) / cell).astype(int)[:, None] + np.array([*itertools.product((-1, 0, 1), repeat=2)])
    near = near.clip(0, np.array(shape) - 1)
    nodes = low + cell * near
    lengths = np.linalg.norm(nodes - places[:, None], axis=-1) + cell / 10
    worst = np.maximum(toll(nodes), toll((nodes + places[:, None]) / 2))
    best = near[np.arange(len(near)), (lengths * worst).argmin(1)]
    return np.ravel_multi_index(tuple(best.T), shape)


def _merge_sources(nodes: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Merge nearby nodes until at most `MAX_SOURCES` are left."""
    block, found = 1, nodes
    while len(np.unique(found)) > MAX_SOURCES:
        block *= 2
        places = np.stack(np.unravel_index(nodes, shape), -1)
        _, first, group = np.unique(places // block, axis=0, return_index=True, return_inverse=True)
        found = nodes[first[group.ravel()]]
    return found


def _by_length(places: Array) -> Array:
    """Resample a path at equal arc lengths, both ends included."""
    far = np.concatenate([[0], np.linalg.norm(np.diff(places, axis=0), axis=1).cumsum()])
    at = np.linspace(0, far[-1], POINTS)
    return np.stack([np.interp(at, far, column) for column in places.T], -1)


def _straight_lines(begins: Array, ends: Array) -> Array:
    """Return points at equal arc lengths of straight lines, [n, POINTS, 2]."""
    fractions = np.linspace(0, 1, POINTS)[:, None]
    return begins[:, None] + fractions * (ends - begins)[:, None]


def _actions(paths: Array, toll: Toll) -> Array:
    """Return the action of each piece of the paths, by the maximum over the piece, [n, points - 1]."""
    steps = np.diff(paths, axis=1)
    parts = paths[:, :-1, None] + np.linspace(0, 1, SUBCELLS + 1)[:, None] * steps[:, :, None]
    length = np.linalg.norm(steps, axis=-1)
    return np.where(length > 0, length * toll(parts).max(-1), 0)


def _cheaper_of(paths: Array, others: Array, toll: Toll) -> Array:
    """Return the cheaper path of each two; if their actions are equal, the second."""
    first, second = (_actions(each, toll).sum(1) for each in (paths, others))
    return np.where((first < second)[:, None, None], paths, others)


def _shortcut(paths: Array, toll: Toll, *, shifted: bool) -> Array:
    """Replace pieces of the paths by straight lines where these have less action, long pieces first."""
    paths, size = paths.copy(), POINTS - 1
    while size >= 4:
        begin = size // 2 if shifted else 0
        for start in range(begin, POINTS - size, size):
            piece = paths[:, start : start + size + 1]
            fractions = np.linspace(0, 1, size + 1)[:, None]
            line = piece[:, :1] + fractions * (piece[:, -1:] - piece[:, :1])
            paths[:, start : start + size + 1] = _cheaper_of(piece, line, toll)
        size //= 2
    return paths


def _smooth_corners(paths: Array) -> Array:
    for _ in range(SMOOTHING_PASSES):
        paths = np.concatenate(
            [paths[:, :1], (paths[:, :-2] + 2 * paths[:, 1:-1] + paths[:, 2:]) / 4, paths[:, -1:]], 1
        )
    return paths


def _resample_by_time(paths: Array, speed: Toll, knots: int) -> Array:
    """Resample paths at equal times, given the speed at each position, [n, knots, 2]."""
    steps = np.diff(paths, axis=1)
    spent = np.linalg.norm(steps, axis=-1) / speed(paths[:, :-1] + steps / 2) + 1e-12
    when = np.concatenate([np.zeros((len(paths), 1)), spent.cumsum(1)], 1)
    found = np.empty((len(paths), knots, 2))
    for row, (times, way) in enumerate(zip(when, paths, strict=True)):
        at = np.linspace(0, times[-1], knots)
        found[row] = np.stack([np.interp(at, times, column) for column in way.T], -1)
    return found
