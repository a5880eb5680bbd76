"""Paths between populations, drawn: as they move, and all at once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from feller.evaluation.report.animation import Animation, animated
from feller.evaluation.report.ground import draw_heights, draw_plane
from feller.evaluation.report.paper import painted, paper
from feller.evaluation.report.projection import Scene, View, look

COLOURS = ("#1f5fa8", "#d1661b", "#2b8a57", "#8a3d8f", "#8c6d1f", "#5a5f66")
"""Of the populations, in the order of time; those that move blend from one to the next."""
FRAMES, TRAIL, BETWEEN = 48, 9, 5
"""Of an animation; those whose way is still seen behind a point; pieces of that way from each to the next."""
WHOLE, PACE, BEGIN, END = 1200, 75, 700, 1600
"""Milliseconds of the whole paths, of a frame, of the first that moves and of the last."""
WALKERS, LINES, MEMBERS = 240, 200, 400
"""Paths that move, paths that are drawn whole, and members of each population, at most."""
DRAWN = 0.25
"""Share of the time after which the frames are drawn, about, and not packed yet."""
WIDE = 5.6
"""Inches of a picture."""
NAME, ROW, SPACE = 20, 64, 5
"""Letters of a population's name, at most, of which the last ones tell files apart; of a row of names; between two."""
BEYOND = 0.001
"""Share of the states of paths that may lie beyond each edge, unless members do, too."""
COLOURED = 48
"""Pieces of a whole path that have a colour each, at most."""


def motion(scene: Scene, tell: Callable[[float], None] = lambda share: None) -> Animation:
    """Draw points that move from the first population to the last, with a trail, before cost and walls.

    It begins with whole paths, which paper keeps, and whoever stops it.

    Args:
        scene: What is drawn.
        tell: Hears which share is done, after each frame.
    """
    view = look(scene)
    figure, axes = _stage(scene, view)
    shares = np.linspace(0, 1, FRAMES)
    times = scene.times[0] + shares * (scene.times[-1] - scene.times[0])
    often = np.linspace(scene.times[0], scene.times[-1], (FRAMES - 1) * BETWEEN + 1)
    places = along(view.paths[:WALKERS], scene.times, often)
    colours = _blended(scene, times)
    from matplotlib.collections import LineCollection

    trails = LineCollection([], linewidths=0.9, alpha=0.22, animated=True)
    walkers = axes.scatter([], [], s=15, linewidths=0.4, edgecolors="white", zorder=5, animated=True)
    clock = _clock(axes)
    axes.add_collection(trails, autolim=False)
    canvas = figure.canvas
    canvas.draw()
    empty, frames = canvas.copy_from_bbox(figure.bbox), []
    for k, time in enumerate(times):
        canvas.restore_region(empty)
        trails.set_segments(list(places[:, max(0, k - TRAIL) * BETWEEN : k * BETWEEN + 1]))
        trails.set_color(colours[k])
        walkers.set_offsets(places[:, k * BETWEEN])
        walkers.set_facecolor(colours[k])
        clock.set_text(f"time {written(time, scene.times)}")
        for artist in (trails, walkers, clock):
            axes.draw_artist(artist)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
        tell(DRAWN * (k + 1) / FRAMES)
    whole = trajectories(scene)
    durations = [WHOLE, BEGIN, *[PACE] * (FRAMES - 2), END]
    return animated([whole, *frames], durations, whole, lambda tried: tell(1 - (1 - DRAWN) / 2**tried))


def trajectories(scene: Scene) -> Image.Image:
    """Draw whole paths over cost and walls, from the colour of where they begin to that of where they end."""
    from matplotlib.collections import LineCollection

    view = look(scene)
    figure, axes = _stage(scene, view)
    paths = view.paths[:LINES]
    ends = np.unique(np.linspace(0, len(scene.times) - 1, COLOURED + 1).round().astype(int))
    middles = (scene.times[ends[:-1]] + scene.times[ends[1:]]) / 2
    for begin, end, colour in zip(ends[:-1], ends[1:], _blended(scene, middles), strict=True):
        pieces = LineCollection(list(paths[:, begin : end + 1]), linewidths=0.7, alpha=0.4, color=colour)
        axes.add_collection(pieces, autolim=False)
    return painted(figure)


def along(
    paths: Float[np.ndarray, "n s 2"], times: Float[np.ndarray, " s"], wanted: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "n k 2"]:
    """Return where paths are at other times, straight between those known."""
    right = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    share = (wanted - times[right - 1]) / (times[right] - times[right - 1])
    return paths[:, right - 1] + share[:, None] * (paths[:, right] - paths[:, right - 1])


def written(time: float, times: Float[np.ndarray, " s"]) -> str:
    """Write a time with as many digits as its journey needs."""
    span = times[-1] - times[0]
    digits = int(np.clip(2 - np.floor(np.log10(span)), 0, 6)) if span > 0 else 0
    return f"{time:.{digits}f}"


def _stage(scene: Scene, view: View) -> tuple[Any, Any]:
    """Draw what stands still: axes, cost and populations."""
    low, high = _frame(scene, view)
    extent = high - low
    shape = extent[1] / extent[0] if view.true and 0.25 < extent[1] / extent[0] < 4 else 0.7
    figure = paper(WIDE, float(np.clip(WIDE * shape, 1.8, 6.2)) + 0.75)
    axes = figure.add_subplot()
    if view.true and 0.25 < extent[1] / extent[0] < 4:
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
        some = members[:MEMBERS]
        axes.scatter(some[:, 0], some[:, 1], s=7, color=colour, alpha=0.28, linewidths=0, zorder=2, label=_short(name))
    _name(figure, axes)
    return figure, axes


def _name(figure: Any, axes: Any) -> None:
    """Say above the picture which colour is whose, row by row."""
    marks, names = axes.get_legend_handles_labels()
    columns = max(1, min(len(names), ROW // (SPACE + max(map(len, names)))))
    order = [i for column in range(columns) for i in range(column, len(names), columns)]
    marks, names = ([some[i] for i in order] for some in (marks, names))
    legend = figure.legend(
        marks, names, loc="outside upper left", ncols=columns, frameon=False, markerscale=2, handletextpad=0.2
    )
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        handle.set_alpha(1)
        text.set_parse_math(False)


def _frame(scene: Scene, view: View) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Return the corners of what is shown: members, nearly all of the paths, all of a picture, and a margin."""
    usual = np.quantile(view.paths.reshape(-1, 2), (BEYOND, 1 - BEYOND), axis=0)
    places = np.concatenate([*view.populations, usual])
    low, high = places.min(0), places.max(0)
    is_plane = scene.paths.shape[2] == 2
    has_ground = (is_plane and (scene.field is not None or scene.walls is not None)) or scene.surface is not None
    share = 0.12 if has_ground else 0.04
    if is_plane and scene.frame is not None:
        left, right, bottom, top = scene.frame
        low, high, share = np.minimum(low, [left, bottom]), np.maximum(high, [right, top]), 0.03
    margin = share * (high - low)
    margin = np.where(margin > 0, margin, 0.5)
    return low - margin, high + margin


def _clock(axes: Any) -> Any:
    """Return the text that tells the time, above the picture, where it hides nothing."""
    return axes.text(1.0, 1.01, "", transform=axes.transAxes, ha="right", va="bottom", size=12, animated=True)


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"…{name[1 - NAME :]}"


def _colours(number: int) -> list[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(number)]


def _blended(scene: Scene, times: Float[np.ndarray, " k"]) -> Sequence[tuple[float, float, float]]:
    """Return a colour for each time, between those of the populations before and after."""
    from matplotlib.colors import to_rgb

    known = np.array([to_rgb(colour) for colour in _colours(len(scene.populations))])
    red, green, blue = (np.interp(times, scene.when, known[:, c]).tolist() for c in range(3))
    return list(zip(red, green, blue, strict=True))
