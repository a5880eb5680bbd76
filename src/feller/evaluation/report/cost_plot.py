"""Plots of the cost of bridge paths over time, and of the progress of bridge training over its rounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from feller.data.figures import to_image
from feller.evaluation.report.embedded_picture import new_figure

AHEAD, BACK, REAL = "#1f5fa8", "#d1661b", "#8a8f96"
WIDE, HIGH = 5.6, 1.75
"""Width and height of a panel in inches."""


def plot_over_time(times: Float[np.ndarray, " s"], curves: Mapping[str, Float[np.ndarray, " s"]]) -> Image.Image:
    """Plot named curves over time, each in its own panel with a y axis that starts at zero."""
    figure = new_figure(WIDE, HIGH * len(curves) + 0.3)
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, curves.items(), strict=True):
        axes.plot(times, values, color=AHEAD, linewidth=1.8)
        axes.fill_between(times, 0, values, color=AHEAD, alpha=0.12, linewidth=0)
        axes.axhline(0, color=REAL, linewidth=0.8)
        axes.set_title(name, loc="left", fontsize=10, parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlim(times[0], times[-1])
    panels[-1].set_xlabel("time")
    return to_image(figure)


@dataclass(frozen=True, kw_only=True)
class RoundSummary:
    """Results of one round of bridge training, in which either the forward or the backward drift is fitted."""

    number: int
    """Number of the round, starting from 1."""
    backward: bool
    """True if the backward drift was fitted in this round."""
    objective: float
    w2: float | None = None
    """Wasserstein-2 distance of the endpoints of simulated paths from the target population."""
    floor: float | None = None
    """Wasserstein-2 distance between halves of the target population."""


def plot_rounds(rounds: Sequence[RoundSummary]) -> Image.Image:
    """Plot the objective and the endpoint distance of each training round.

    Forward and backward rounds have separate curves, since the minima of their objectives differ by the difference of
    the populations' entropies. Dashed lines are distances between halves of the target population.
    """
    has_distance = any(summary.w2 is not None for summary in rounds)
    figure = new_figure(WIDE, HIGH * (1 + has_distance) + 0.7)
    panels = figure.subplots(1 + has_distance, 1, sharex=True, squeeze=False)[:, 0]
    titles = ("objective", "endpoint distance from the target population")
    for axes, name, key in zip(panels, titles, ("objective", "w2"), strict=False):
        for backward, colour, marker, direction in ((False, AHEAD, "o", "forward"), (True, BACK, "s", "backward")):
            values = [(summary.number, getattr(summary, key)) for summary in rounds if summary.backward == backward]
            finite = [(number, value) for number, value in values if value is not None and math.isfinite(value)]
            if finite:
                axes.plot(*zip(*finite, strict=True), color=colour, marker=marker, markersize=4.5, label=direction)
        axes.set_title(name, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.ticklabel_format(axis="y", useOffset=False)
        if len(rounds) == 1 and axes.get_ylim()[0] > 0:
            axes.set_ylim(bottom=0)
    if has_distance:
        for backward, colour, direction in ((False, AHEAD, "forward"), (True, BACK, "backward")):
            floors = [summary.floor for summary in rounds if summary.backward == backward and summary.floor is not None]
            if floors:
                panels[1].axhline(
                    floors[-1], color=colour, linestyle="--", linewidth=1.2, label=f"real members, {direction}"
                )
        panels[1].set_ylim(0, panels[1].get_ylim()[1])
    from matplotlib.ticker import MaxNLocator

    panels[-1].set_xlim(rounds[0].number - 0.5, rounds[-1].number + 0.5)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[-1].set_xlabel("round")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False)
    return to_image(figure)
