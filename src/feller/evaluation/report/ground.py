"""The ground that paths are drawn on: what being somewhere costs, walls, and the heights of a surface."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from feller.evaluation.report.projection import Field, Scene, Walls

GRID, FINE = 200, 800
"""Places along each axis where cost and height are asked for, and, as walls have edges, obstacles."""
WALL, EDGE, OUTSIDE, HATCH = "#8b9199", "#23272d", "#f1f2f4", "#c6cbd2"
"""Colours of obstacles, of their outline, and of what is outside of a picture of walls."""
LEVELS, NEAR, REACH = 8, 12, 1.5
"""Lines of equal height; points that tell the height of a place; distance from them, in usual ones of a point to its
nearest others, beyond which none is told."""


def draw_plane(axes: Any, scene: Scene, low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"]) -> None:
    """Shade what being somewhere costs, fill obstacles and outline them, and hatch what is outside of their picture."""
    from matplotlib.patches import Rectangle

    left, right, bottom, top = scene.frame or (low[0], high[0], low[1], high[1])

    def free(places: Float[np.ndarray, "k 2"]) -> Bool[np.ndarray, " k"]:
        within = ((places >= [left, bottom]) & (places <= [right, top])).all(axis=1)
        return np.asarray(within if scene.walls is None else within & ~scene.walls(places))

    if scene.frame is not None:
        corner, (wide, tall) = (float(low[0]), float(low[1])), high - low
        axes.add_patch(Rectangle(corner, wide, tall, facecolor=OUTSIDE, edgecolor=HATCH, hatch="///", lw=0, zorder=0))
        room = Rectangle((left, bottom), right - left, top - bottom, facecolor="white", edgecolor=EDGE, zorder=0.1)
        axes.add_patch(room)
    if scene.field is not None:
        _draw_field(axes, scene.field, free, low, high)
    if scene.walls is not None:
        x, y, places = _grid(np.array([left, bottom]), np.array([right, top]), FINE)
        _draw_walls(axes, scene.walls(places).reshape(len(y), len(x)), x, y)


def _grid(low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"], number: int) -> tuple[Any, Any, Any]:
    """Return middles of cells along x and along y, and all of them as places, row by row."""
    x, y = (a + (b - a) * (np.arange(number) + 0.5) / number for a, b in zip(low, high, strict=True))
    return x, y, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _draw_field(
    axes: Any, field: Field, free: Walls, low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"]
) -> None:
    """Shade free places: white where being costs least, grey from a cost that a twentieth of them reach."""
    places = _grid(low, high, GRID)[2]
    cost = np.nan_to_num(np.asarray(field(places), dtype=np.float64), posinf=np.inf, nan=0.0)
    is_free = free(places)
    finite = cost[np.isfinite(cost) & is_free]
    if not len(finite) or cost[is_free].max() <= finite.min():
        return
    least, most = finite.min(), max(np.quantile(finite, 0.95), finite.min() + 0.02 * (finite.max() - finite.min()))
    shade = ((cost - least) / max(most - least, 1e-300)).clip(0, 1) ** (1 / 3)  # edges are seen, and slopes inside
    shown = np.ma.masked_array(0.55 * shade, ~is_free).reshape(GRID, GRID)
    _paint(axes, shown, low, high, interpolation="bilinear" if is_free.all() else "nearest")


def _draw_walls(axes: Any, inside: Bool[np.ndarray, "rows columns"], x: Any, y: Any) -> None:
    """Fill obstacles, with a line where they end."""
    from matplotlib.colors import ListedColormap

    half = np.array([x[1] - x[0], y[1] - y[0]]) / 2
    low, high = np.array([x[0], y[0]]) - half, np.array([x[-1], y[-1]]) + half
    _paint(axes, np.ma.masked_array(inside, ~inside), low, high, cmap=ListedColormap([WALL]))
    if inside.any() and not inside.all():
        axes.contour(x, y, inside.astype(float), levels=[0.5], colors=EDGE, linewidths=1.0, zorder=1)


def draw_heights(
    axes: Any, cloud: Float[np.ndarray, "m 3"], low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"]
) -> None:
    """Shade a surface by its height, the lowest white, with lines of equal height."""
    x, y, places = _grid(low, high, GRID)
    height = np.ma.masked_invalid(_heights(cloud, places)).reshape(GRID, GRID)
    if height.count() == 0 or height.min() == height.max():
        return
    _paint(axes, 0.55 * (height - height.min()) / (height.max() - height.min()), low, high, interpolation="bilinear")
    axes.contour(x, y, height, levels=LEVELS, colors=EDGE, linewidths=0.5, alpha=0.45, zorder=1)


def _heights(cloud: Float[np.ndarray, "m 3"], places: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, " k"]:
    """Return the height of a surface at places, by the points nearest to each; NaN where none is near."""
    from scipy.spatial import KDTree

    tree, number = KDTree(cloud[:, :2]), min(NEAR, len(cloud))
    distances, nearest = (found.reshape(len(places), number) for found in tree.query(places, number))
    some = cloud[:: -(-len(cloud) // 10_000), :2]
    usual = np.median(tree.query(some, number)[0].reshape(len(some), number)[:, -1])
    weights = 1 / (distances**2 + usual**2 / 4 + 1e-300)
    height = (weights * cloud[nearest, 2]).sum(1) / weights.sum(1)
    return np.where(distances[:, 0] <= REACH * usual, height, np.nan)


def _paint(axes: Any, values: Any, low: Any, high: Any, *, cmap: Any = "Greys", interpolation: str = "nearest") -> None:
    """Show values of cells between two corners, rows upwards."""
    axes.imshow(
        values,
        extent=(low[0], high[0], low[1], high[1]),
        origin="lower",
        cmap=cmap,
        vmin=0,
        vmax=1,
        aspect=axes.get_aspect(),  # which imshow would change
        interpolation=interpolation,
        zorder=0.5,
    )
