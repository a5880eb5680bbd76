"""Planning of paths around obstacles in the plane, which are the initial means of the pinned Gaussian paths."""

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
"""Number of points per path while planned paths are shortened."""
SMOOTHING_PASSES = 12
"""Number of passes of the moving average over the points of a path."""
MOVES = [(a, b) for a, b in itertools.product(range(3), range(-2, 3)) if math.gcd(a, b) == 1 and (a, b) > (0, 0)]
"""Grid steps to the 16 neighbours of a node; of two opposite steps, only one is listed."""
Array = NDArray[np.float64]
Toll = Callable[[Array], Array]
"""Function from positions [*b, 2] to the action per unit of path length, [*b]."""


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
    starts, ends = x_0.detach().double().cpu().numpy(), x_1.detach().double().cpu().numpy()
    energy = max(float(np.square(ends - starts).sum(1).mean()) / 2, 1e-12)

    def toll(positions: Array) -> Array:
        return (2 * energy + _values(cost, positions, t, x_0)) / math.sqrt(2 * energy)

    low, cell, shape = _grid(np.concatenate([starts, ends]))
    tolls = toll(low + cell / SUBCELLS * np.moveaxis(np.indices([SUBCELLS * (k - 1) + 1 for k in shape]), 0, -1))
    if tolls.min() == tolls.max():
        return None
    paths = _shortest_paths(starts, ends, _graph(tolls, cell, shape), toll, low, cell, shape)
    fractions = np.linspace(0, 1, POINTS)[:, None]
    lines = starts[:, None] + fractions * (ends - starts)[:, None]
    paths = _cheaper_of(paths, lines, toll)
    for i in range(2):
        paths = _shortcut(paths, toll, is_shifted=bool(i))
    paths = _cheaper_of(_smooth_corners(paths), paths, toll)
    states = _resample_by_time(paths, lambda positions: np.sqrt(2 * (energy + _values(cost, positions, t, x_0))), knots)
    states[:, 0], states[:, -1] = starts, ends
    planned = torch.from_numpy(states).to(x_0)
    planned[:, 0], planned[:, -1] = x_0, x_1
    return planned


def _values(cost: StateCost, positions: Array, t: float, like: Tensor) -> Array:
    """Return the state cost V at positions [*b, 2] and time t, at least 0; NaN becomes infinite, like a wall."""
    chunks = []
    with torch.no_grad():
        for chunk in torch.from_numpy(positions.reshape(-1, 2)).split(1 << 18):
            states = chunk.to(like)[None]
            chunks.append(cost(states, torch.full((1, 1), t, dtype=like.dtype, device=like.device))[0].double().cpu())
    return (
        torch.cat(chunks).nan_to_num(nan=math.inf, posinf=math.inf).clamp(min=0).numpy().reshape(positions.shape[:-1])
    )


def _grid(positions: Array) -> tuple[Array, float, tuple[int, int]]:
    """Return the lower corner, the distance between nodes and the numbers of nodes of a grid around positions."""
    low, high = positions.min(0), positions.max(0)
    margin = MARGIN * max((high - low).max(), 1e-9)
    extent = high - low + 2 * margin
    cell = extent.max() / (NODES - 1)
    num_x, num_y = (int(k) + 1 for k in np.ceil(extent / cell - 1e-9))
    return low - margin, cell, (num_x, num_y)


def _graph(tolls: Array, cell: float, shape: tuple[int, int]) -> csr_matrix:
    """Return the graph of grid nodes; an edge is a step of `MOVES`, weighted by its length times its largest toll.

    Edges through infinite tolls (walls) are left out. `tolls` holds the action per unit of length on a grid that is
    `SUBCELLS` times as fine as the nodes, `cell` is the distance of neighbouring nodes, and `shape` their numbers.
    """
    max_tolls, node_ids = maximum_filter(tolls, 3), np.arange(shape[0] * shape[1]).reshape(shape)
    origins, targets, actions = [], [], []
    for a, b in MOVES:
        rows, columns = np.arange(shape[0] - a), np.arange(max(0, -b), shape[1] - max(0, b))
        step_tolls = np.stack(
            [max_tolls[np.ix_(rows * SUBCELLS + a * k, columns * SUBCELLS + b * k)] for k in range(SUBCELLS + 1)]
        ).max(0)
        origins.append(node_ids[np.ix_(rows, columns)].ravel())
        targets.append(node_ids[np.ix_(rows + a, columns + b)].ravel())
        actions.append(cell * math.hypot(a, b) * step_tolls.ravel())
    start, stop, action = map(np.concatenate, (origins, targets, actions))
    is_open = np.isfinite(action)
    return csr_matrix((action[is_open], (start[is_open], stop[is_open])), shape=(node_ids.size, node_ids.size))


def _shortest_paths(
    starts: Array, ends: Array, graph: csr_matrix, toll: Toll, low: Array, cell: float, shape: tuple[int, int]
) -> Array:
    """Return the paths of least action through the graph, [n, POINTS, 2]; straight lines where no path exists."""
    sources, targets = (_nodes(positions, toll, low, cell, shape) for positions in (starts, ends))
    is_reversed = len(np.unique(targets)) < len(np.unique(sources))
    if is_reversed:
        sources, targets = targets, sources
    sources = _merge_sources(sources, shape)
    origins, origin_index = np.unique(sources, return_inverse=True)
    action, predecessors = dijkstra(graph, directed=False, indices=origins, return_predecessors=True)
    paths = []
    for start, end, origin, node in zip(starts, ends, origin_index, targets, strict=True):
        visited = []
        if np.isfinite(action[origin, node]):
            while node >= 0:
                visited.append(node)
                node = predecessors[origin, node]
        positions = low + cell * np.stack(np.unravel_index(np.array(visited, int), shape), -1)
        positions = positions if is_reversed else positions[::-1]
        paths.append(_by_length(np.concatenate([start[None], positions, end[None]])))
    return np.stack(paths)


def _nodes(positions: Array, toll: Toll, low: Array, cell: float, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return, for each position, the grid node to enter the graph: the one of nine around it with the least action."""
    neighbours = np.rint((positions - low) / cell).astype(int)[:, None] + np.array(
        [*itertools.product((-1, 0, 1), repeat=2)]
    )
    neighbours = neighbours.clip(0, np.array(shape) - 1)
    nodes = low + cell * neighbours
    lengths = np.linalg.norm(nodes - positions[:, None], axis=-1) + cell / 10
    max_tolls = np.maximum(toll(nodes), toll((nodes + positions[:, None]) / 2))
    best = neighbours[np.arange(len(neighbours)), (lengths * max_tolls).argmin(1)]
    return np.ravel_multi_index(tuple(best.T), shape)


def _merge_sources(nodes: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Replace nodes of one block of the grid by one of them, in larger blocks until `MAX_SOURCES` nodes are left."""
    block, merged = 1, nodes
    while len(np.unique(merged)) > MAX_SOURCES:
        block *= 2
        positions = np.stack(np.unravel_index(nodes, shape), -1)
        _, first_index, group = np.unique(positions // block, axis=0, return_index=True, return_inverse=True)
        merged = nodes[first_index[group.ravel()]]
    return merged


def _by_length(points: Array) -> Array:
    """Resample a path at equal arc lengths, both ends included."""
    arc_lengths = np.concatenate([[0], np.linalg.norm(np.diff(points, axis=0), axis=1).cumsum()])
    targets = np.linspace(0, arc_lengths[-1], POINTS)
    return np.stack([np.interp(targets, arc_lengths, column) for column in points.T], -1)


def _actions(paths: Array, toll: Toll) -> Array:
    """Return the action of each piece of the paths: its length times the largest toll on it, [n, points - 1]."""
    steps = np.diff(paths, axis=1)
    points = paths[:, :-1, None] + np.linspace(0, 1, SUBCELLS + 1)[:, None] * steps[:, :, None]
    length = np.linalg.norm(steps, axis=-1)
    return np.where(length > 0, length * toll(points).max(-1), 0)


def _cheaper_of(paths: Array, alternatives: Array, toll: Toll) -> Array:
    """Return, for each pair, the path with less action of `paths` and `alternatives`; the alternative if equal."""
    action, other_action = (_actions(group, toll).sum(1) for group in (paths, alternatives))
    return np.where((action < other_action)[:, None, None], paths, alternatives)


def _shortcut(paths: Array, toll: Toll, *, is_shifted: bool) -> Array:
    """Replace pieces of the paths by straight lines where these have less action, long pieces first.

    `is_shifted` moves the ends of the pieces by half the length of a piece.
    """
    paths, length = paths.copy(), POINTS - 1
    while length >= 4:
        offset = length // 2 if is_shifted else 0
        for start in range(offset, POINTS - length, length):
            piece = paths[:, start : start + length + 1]
            fractions = np.linspace(0, 1, length + 1)[:, None]
            line = piece[:, :1] + fractions * (piece[:, -1:] - piece[:, :1])
            paths[:, start : start + length + 1] = _cheaper_of(piece, line, toll)
        length //= 2
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
    durations = np.linalg.norm(steps, axis=-1) / speed(paths[:, :-1] + steps / 2) + 1e-12
    arrival_times = np.concatenate([np.zeros((len(paths), 1)), durations.cumsum(1)], 1)
    resampled = np.empty((len(paths), knots, 2))
    for row, (times, path) in enumerate(zip(arrival_times, paths, strict=True)):
        targets = np.linspace(0, times[-1], knots)
        resampled[row] = np.stack([np.interp(targets, times, column) for column in path.T], -1)
    return resampled
