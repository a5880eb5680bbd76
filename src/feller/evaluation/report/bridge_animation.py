"""Animations and filmstrips of bridge trajectories, drawn over state costs, obstacles and surfaces."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from feller.data.figures import to_image
from feller.data.files.sample_folder import GAP, tile
from feller.evaluation.report.embedded_picture import Animation, make_animation, new_figure
from feller.evaluation.report.projection import BridgeScene, Field, ProjectedScene, Walls, project_scene

ROWS, COLUMNS = 6, 9
"""Maximum number of paths and maximum number of times in a filmstrip."""
SIDE = 84
"""Approximate side length in pixels to which small images are magnified."""
LETTER, ROOM = 16, 28
"""Font size of the time labels, and height of the band that contains them, in pixels."""


def filmstrip(paths: UInt8[np.ndarray, "n s h w c"], times: Sequence[str]) -> Image.Image:
    """Return an image grid of the first paths: one row per path, one column per time, labelled with `times`."""
    indices = np.unique(np.linspace(0, len(times) - 1, COLUMNS).round().astype(int))
    frames = paths[:ROWS, indices]
    flat_frames = frames.reshape(-1, *frames.shape[2:])
    factor = max(1, SIDE // max(flat_frames.shape[1:3]))
    grid = tile(flat_frames.repeat(factor, 1).repeat(factor, 2), len(indices)).convert("RGB")
    column_width = (grid.width - GAP) / len(indices)
    strip = Image.new("RGB", (grid.width, grid.height + ROOM), "white")
    strip.paste(grid, (0, ROOM))
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", LETTER)
    draw = ImageDraw.Draw(strip)
    for column, index in enumerate(indices.tolist()):
        draw.text((GAP / 2 + (column + 0.5) * column_width, ROOM / 2), times[index], "black", font, anchor="mm")
    return strip


GRID, WALL_GRID = 200, 800
"""Number of grid points per axis for the state cost and the height, and for obstacles."""
WALL, EDGE, OUTSIDE, HATCH = "#8b9199", "#23272d", "#f1f2f4", "#c6cbd2"
"""Colours of obstacles, of their outlines, and of the fill and the hatching outside the obstacle image."""
LEVELS, HEIGHT_NEIGHBOURS, HEIGHT_RANGE = 8, 12, 1.5
"""Number of contour lines; number of nearest points from which the height is interpolated; distance to these points
beyond which the height is undefined, in typical neighbour distances."""


def draw_plane(axes: Any, scene: BridgeScene, low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"]) -> None:
    """Draw the state cost as shading, obstacles as outlined areas, and hatching outside the obstacle image.

    Args:
        axes: Matplotlib axes.
        scene: Bridge scene with two-dimensional states.
        low: Lower limits of the drawn area in x and y.
        high: Upper limits of the drawn area in x and y.
    """
    from matplotlib.patches import Rectangle

    left, right, bottom, top = scene.frame or (low[0], high[0], low[1], high[1])

    def is_free(points: Float[np.ndarray, "k 2"]) -> Bool[np.ndarray, " k"]:
        in_frame = ((points >= [left, bottom]) & (points <= [right, top])).all(axis=1)
        return np.asarray(in_frame if scene.walls is None else in_frame & ~scene.walls(points))

    if scene.frame is not None:
        corner, (w, h) = (float(low[0]), float(low[1])), high - low
        axes.add_patch(Rectangle(corner, w, h, facecolor=OUTSIDE, edgecolor=HATCH, hatch="///", lw=0, zorder=0))
        frame = Rectangle((left, bottom), right - left, top - bottom, facecolor="white", edgecolor=EDGE, zorder=0.1)
        axes.add_patch(frame)
    if scene.field is not None:
        _draw_field(axes, scene.field, is_free, low, high)
    if scene.walls is not None:
        x, y, points = _grid(np.array([left, bottom]), np.array([right, top]), WALL_GRID)
        _draw_walls(axes, scene.walls(points).reshape(len(y), len(x)), x, y)


def _grid(low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"], size: int) -> tuple[Any, Any, Any]:
    """Return cell centres along x and y, and all grid points in row-major order."""
    x, y = (a + (b - a) * (np.arange(size) + 0.5) / size for a, b in zip(low, high, strict=True))
    return x, y, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _draw_field(
    axes: Any, field: Field, free_mask: Walls, low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"]
) -> None:
    """Shade the state cost of free cells: white at the minimum, darkest from the 95 % quantile."""
    points = _grid(low, high, GRID)[2]
    cost = np.nan_to_num(np.asarray(field(points), dtype=np.float64), posinf=np.inf, nan=0.0)
    is_free = free_mask(points)
    finite = cost[np.isfinite(cost) & is_free]
    if not len(finite) or cost[is_free].max() <= finite.min():
        return
    lowest, highest = finite.min(), max(np.quantile(finite, 0.95), finite.min() + 0.02 * (finite.max() - finite.min()))
    shade = ((cost - lowest) / max(highest - lowest, 1e-300)).clip(0, 1) ** (1 / 3)  # shows edges and inner gradients
    masked = np.ma.masked_array(0.55 * shade, ~is_free).reshape(GRID, GRID)
    _paint(axes, masked, low, high, interpolation="bilinear" if is_free.all() else "nearest")


def _draw_walls(axes: Any, is_wall: Bool[np.ndarray, "rows columns"], x: Any, y: Any) -> None:
    from matplotlib.colors import ListedColormap

    half = np.array([x[1] - x[0], y[1] - y[0]]) / 2
    low, high = np.array([x[0], y[0]]) - half, np.array([x[-1], y[-1]]) + half
    _paint(axes, np.ma.masked_array(is_wall, ~is_wall), low, high, cmap=ListedColormap([WALL]))
    if is_wall.any() and not is_wall.all():
        axes.contour(x, y, is_wall.astype(float), levels=[0.5], colors=EDGE, linewidths=1.0, zorder=1)


def draw_heights(
    axes: Any, cloud: Float[np.ndarray, "m 3"], low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"]
) -> None:
    """Draw the height of a surface as contour lines and shading, in which the lowest points are white.

    Args:
        axes: Matplotlib axes.
        cloud: Points (x, y, height) of the surface.
        low: Lower limits of the drawn area in x and y.
        high: Upper limits of the drawn area in x and y.
    """
    x, y, points = _grid(low, high, GRID)
    height = np.ma.masked_invalid(_heights(cloud, points)).reshape(GRID, GRID)
    if height.count() == 0 or height.min() == height.max():
        return
    _paint(axes, 0.55 * (height - height.min()) / (height.max() - height.min()), low, high, interpolation="bilinear")
    axes.contour(x, y, height, levels=LEVELS, colors=EDGE, linewidths=0.5, alpha=0.45, zorder=1)


def _heights(cloud: Float[np.ndarray, "m 3"], points: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, " k"]:
    """Interpolate the height of a surface from the nearest points; NaN far from all points."""
    from scipy.spatial import KDTree

    tree, k = KDTree(cloud[:, :2]), min(HEIGHT_NEIGHBOURS, len(cloud))
    distances, nearest = (values.reshape(len(points), k) for values in tree.query(points, k))
    sample = cloud[:: -(-len(cloud) // 10_000), :2]
    typical = np.median(tree.query(sample, k)[0].reshape(len(sample), k)[:, -1])
    weights = 1 / (distances**2 + typical**2 / 4 + 1e-300)
    height = (weights * cloud[nearest, 2]).sum(1) / weights.sum(1)
    return np.where(distances[:, 0] <= HEIGHT_RANGE * typical, height, np.nan)


def _paint(axes: Any, values: Any, low: Any, high: Any, *, cmap: Any = "Greys", interpolation: str = "nearest") -> None:
    axes.imshow(
        values,
        extent=(low[0], high[0], low[1], high[1]),
        origin="lower",
        cmap=cmap,
        vmin=0,
        vmax=1,
        aspect=axes.get_aspect(),  # imshow would change it
        interpolation=interpolation,
        zorder=0.5,
    )


COLOURS = ("#1f5fa8", "#d1661b", "#2b8a57", "#8a3d8f", "#8c6d1f", "#5a5f66")
"""Colours of the populations in time order; moving points take interpolated colours."""
FRAMES, TRAIL, BETWEEN = 48, 9, 5
"""Number of frames; length of a point's trail in frames; number of trail segments per frame."""
STILL_MS, FRAME_MS, FIRST_FRAME_MS, LAST_FRAME_MS = 1200, 75, 700, 1600
"""Duration, in milliseconds, of the still image with whole paths, of a frame, of the first frame and of the last
frame."""
MAX_MOVING, MAX_LINES, MEMBERS = 240, 200, 400
"""Maximum numbers of animated paths, of paths in the still image, and of members drawn per population."""
DRAWING_FRACTION = 0.25
"""Fraction of the progress that is spent on drawing frames; the rest is spent on encoding."""
WIDE = 5.6
"""Figure width in inches."""
NAME, ROW, SPACE = 20, 64, 5
"""Maximum number of letters in a population's name, of which the end is kept; maximum number of letters in a row of the
legend; number of letters between two legend entries."""
EDGE_QUANTILE = 0.001
"""Fraction of path states beyond each edge of the plot; population members are always inside."""
COLOURED = 48
"""Maximum number of coloured segments per path."""


def animate_paths(scene: BridgeScene, on_progress: Callable[[float], None] = lambda share: None) -> Animation:
    """Animate points that move from the first to the last population, drawn over state cost and obstacles.

    The first frame shows whole paths, for print and reduced motion. `on_progress` is called with the completed
    fraction.
    """
    view = project_scene(scene)
    figure, axes = _draw_background(scene, view)
    fractions = np.linspace(0, 1, FRAMES)
    times = scene.times[0] + fractions * (scene.times[-1] - scene.times[0])
    fine_times = np.linspace(scene.times[0], scene.times[-1], (FRAMES - 1) * BETWEEN + 1)
    positions = interpolate_paths(view.paths[:MAX_MOVING], scene.times, fine_times)
    colours = _blended_colours(scene, times)
    from matplotlib.collections import LineCollection

    trails = LineCollection([], linewidths=0.9, alpha=0.22, animated=True)
    markers = axes.scatter([], [], s=15, linewidths=0.4, edgecolors="white", zorder=5, animated=True)
    time_label = axes.text(1.0, 1.01, "", transform=axes.transAxes, ha="right", va="bottom", size=12, animated=True)
    axes.add_collection(trails, autolim=False)
    canvas = figure.canvas
    canvas.draw()
    background, frames = canvas.copy_from_bbox(figure.bbox), []
    for k, time in enumerate(times):
        canvas.restore_region(background)
        trails.set_segments(list(positions[:, max(0, k - TRAIL) * BETWEEN : k * BETWEEN + 1]))
        trails.set_color(colours[k])
        markers.set_offsets(positions[:, k * BETWEEN])
        markers.set_facecolor(colours[k])
        time_label.set_text(f"time {format_time(time, scene.times)}")
        for artist in (trails, markers, time_label):
            axes.draw_artist(artist)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
        on_progress(DRAWING_FRACTION * (k + 1) / FRAMES)
    still = plot_paths(scene)
    durations = [STILL_MS, FIRST_FRAME_MS, *[FRAME_MS] * (FRAMES - 2), LAST_FRAME_MS]
    return make_animation(
        [still, *frames], durations, still, lambda attempts: on_progress(1 - (1 - DRAWING_FRACTION) / 2**attempts)
    )


def plot_paths(scene: BridgeScene) -> Image.Image:
    """Plot whole paths, coloured by time, over state cost and obstacles."""
    from matplotlib.collections import LineCollection

    view = project_scene(scene)
    figure, axes = _draw_background(scene, view)
    paths = view.paths[:MAX_LINES]
    edges = np.unique(np.linspace(0, len(scene.times) - 1, COLOURED + 1).round().astype(int))
    midpoints = (scene.times[edges[:-1]] + scene.times[edges[1:]]) / 2
    for start, stop, colour in zip(edges[:-1], edges[1:], _blended_colours(scene, midpoints), strict=True):
        segments = LineCollection(list(paths[:, start : stop + 1]), linewidths=0.7, alpha=0.4, color=colour)
        axes.add_collection(segments, autolim=False)
    return to_image(figure)


def interpolate_paths(
    paths: Float[np.ndarray, "n s 2"], times: Float[np.ndarray, " s"], query_times: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "n k 2"]:
    """Interpolate paths linearly at the times `query_times`."""
    right = np.searchsorted(times, query_times).clip(1, len(times) - 1)
    fraction = (query_times - times[right - 1]) / (times[right] - times[right - 1])
    return paths[:, right - 1] + fraction[:, None] * (paths[:, right] - paths[:, right - 1])


def format_time(time: float, times: Float[np.ndarray, " s"]) -> str:
    """Format a time with as many decimals as the range of `times` requires."""
    span = times[-1] - times[0]
    digits = int(np.clip(2 - np.floor(np.log10(span)), 0, 6)) if span > 0 else 0
    return f"{time:.{digits}f}"


def _draw_background(scene: BridgeScene, view: ProjectedScene) -> tuple[Any, Any]:
    """Draw axes, state cost, obstacles and populations."""
    low, high = _frame(scene, view)
    extent = high - low
    shape = extent[1] / extent[0] if view.has_equal_units and 0.25 < extent[1] / extent[0] < 4 else 0.7
    figure = new_figure(WIDE, float(np.clip(WIDE * shape, 1.8, 6.2)) + 0.75)
    axes = figure.add_subplot()
    if view.has_equal_units and 0.25 < extent[1] / extent[0] < 4:
        axes.set_aspect("equal")
    for name, text in zip(("x", "y"), view.labels, strict=True):
        getattr(axes, f"set_{name}label")(text, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    if scene.paths.shape[2] == 2:
        draw_plane(axes, scene, low, high)
    elif scene.paths.shape[2] == 3 and scene.surface is not None:
        draw_heights(axes, scene.surface, low, high)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    for members, name, colour in zip(view.populations, scene.names, _colours(len(view.populations)), strict=True):
        xy = members[:MEMBERS]
        axes.scatter(xy[:, 0], xy[:, 1], s=7, color=colour, alpha=0.28, linewidths=0, zorder=2, label=_short(name))
    _draw_legend(figure, axes)
    return figure, axes


def _draw_legend(figure: Any, axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    columns = max(1, min(len(names), ROW // (SPACE + max(map(len, names)))))
    order = [i for column in range(columns) for i in range(column, len(names), columns)]
    handles, names = ([entries[i] for i in order] for entries in (handles, names))
    legend = figure.legend(
        handles, names, loc="outside upper left", ncols=columns, frameon=False, markerscale=2, handletextpad=0.2
    )
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        handle.set_alpha(1)
        text.set_parse_math(False)


def _frame(scene: BridgeScene, view: ProjectedScene) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Return the lower and upper corner of the plot.

    It contains all samples of the populations, nearly all states of the paths, the wall image, and a margin.
    """
    path_range = np.quantile(view.paths.reshape(-1, 2), (EDGE_QUANTILE, 1 - EDGE_QUANTILE), axis=0)
    corners = np.concatenate([*view.populations, path_range])
    low, high = corners.min(0), corners.max(0)
    is_plane = scene.paths.shape[2] == 2
    has_ground = (is_plane and (scene.field is not None or scene.walls is not None)) or scene.surface is not None
    margin_fraction = 0.12 if has_ground else 0.04
    if is_plane and scene.frame is not None:
        left, right, bottom, top = scene.frame
        low, high, margin_fraction = np.minimum(low, [left, bottom]), np.maximum(high, [right, top]), 0.03
    margin = margin_fraction * (high - low)
    margin = np.where(margin > 0, margin, 0.5)
    return low - margin, high + margin


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"…{name[1 - NAME :]}"


def _colours(count: int) -> list[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(count)]


def _blended_colours(scene: BridgeScene, times: Float[np.ndarray, " k"]) -> Sequence[tuple[float, float, float]]:
    """Return a colour per time, interpolated between the populations before and after."""
    from matplotlib.colors import to_rgb

    population_colours = np.array([to_rgb(colour) for colour in _colours(len(scene.populations))])
    red, green, blue = (np.interp(times, scene.population_times, population_colours[:, c]).tolist() for c in range(3))
    return list(zip(red, green, blue, strict=True))
