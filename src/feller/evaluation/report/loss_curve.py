"""Training loss curve as an SVG image whose colours are CSS variables of the report page."""

import io
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from feller.evaluation.number_format import Number, format_number, is_number

Curve = Sequence[Mapping[str, Number]]
"""Recorded training steps, each with `step`, `loss` and other values."""
POINTS, MAX_CORNERS = 600, 300
"""Maximum number of dots for single steps, and maximum number of vertices of the smoothed line."""
SMOOTH = 0.03
"""Half-width of the moving average, as a fraction of the recorded steps."""
DECADE = 10
"""Ratio of the largest to the smallest smoothed loss from which the loss axis is logarithmic."""
HUGE = 1e30
"""Value from which a loss counts as infinite; a loss below the inverse of this value counts as zero."""
INK, SOFT, RULE, ACCENT = "#010101", "#020202", "#030303", "#040404"
COLOURS = {INK: "--ink, #1b1e22", SOFT: "--soft, #565d66", RULE: "--rule, #dcd9d1", ACCENT: "--accent, #0d6478"}
"""Mapping from a placeholder colour in matplotlib to a CSS variable and its fallback colour."""
SIZES = {"wide": (10.0, 3.0, 9.0), "narrow": (4.6, 2.9, 11.0)}
"""Figure sizes (width and height in inches, font size) for wide and for narrow screens."""


def finite_losses(curve: Curve) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the sorted steps with a finite loss, and their losses; if a step repeats, its last record counts."""
    loss_at_step: dict[float, float] = {}
    for entry in curve:
        step, loss = entry.get("step"), entry.get("loss")
        if is_number(step) and step >= 0 and is_number(loss) and abs(loss) < HUGE:
            loss_at_step[float(step)] = float(loss)
    steps = sorted(loss_at_step)
    return np.array(steps, dtype=np.float64), np.array([loss_at_step[step] for step in steps], dtype=np.float64)


def smooth(values: Float[np.ndarray, " n"], at: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Return moving averages of values at indices `at`; windows shrink near the start, where the loss falls fast."""
    half_width = max(1, round(SMOOTH * len(values)))
    return np.array([values[i - min(i // 2, half_width) : i + min(i // 2, half_width) + 1].mean() for i in at.tolist()])


def is_logarithmic(line: Float[np.ndarray, " m"]) -> bool:
    """Return True if the largest smoothed loss is at least ten times the smallest."""
    return bool(line.min() > 1 / HUGE and line.max() >= DECADE * line.min())


def loss_svg(curve: Curve) -> str:
    """Return the SVG images for wide and for narrow screens as one text; empty for fewer than two steps."""
    steps, loss = finite_losses(curve)
    if len(steps) < 2:
        return ""
    vertices = np.unique(np.linspace(0, len(steps) - 1, MAX_CORNERS).round().astype(int))
    line = smooth(loss, vertices)
    return "".join(_svg(size, steps, loss, steps[vertices], line) for size in SIZES)


def _svg(
    size: str,
    steps: Float[np.ndarray, " n"],
    loss: Float[np.ndarray, " n"],
    vertices: Float[np.ndarray, " m"],
    line: Float[np.ndarray, " m"],
) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height, font_size = SIZES[size]
    stride = -(-len(steps) // POINTS)
    dots = np.stack([steps[::stride], steps[::stride], np.full_like(steps[::stride], np.nan)], 1).ravel()
    low, high = (float(limit) for limit in np.quantile(loss, (0.005, 0.995)))
    low, high = min(low, float(line.min())), max(high, float(line.max()))
    style = {"svg.fonttype": "none", "svg.hashsalt": size, "path.simplify": False, "font.size": font_size}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        if is_logarithmic(line):
            axes.set_yscale("log")
            low = max(low, float(line.min()) / 3)
        axes.plot(dots, np.repeat(loss[::stride], 3), color=ACCENT, alpha=0.35, linewidth=3, solid_capstyle="round")
        axes.plot(vertices, line, color=ACCENT, linewidth=1.8)
        if low < high:
            margin = (high / low) ** 0.05 if is_logarithmic(line) else 0.05 * (high - low)
            limits = (low / margin, high * margin) if is_logarithmic(line) else (low - margin, high + margin)
            axes.set_ylim(*limits)
        axes.set_xlim(0, float(steps[-1]))
        axes.set_xlabel("training steps", color=SOFT)
        axes.set_ylabel("loss", color=SOFT)
        axes.grid(axis="y", color=RULE, linewidth=0.7)
        axes.tick_params(which="both", length=0, labelcolor=SOFT)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(SOFT)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    first, last = (format_number(float(value)) for value in (line[0], line[-1]))
    label = f"Loss over training steps: from {first} at step {steps[0]:,.0f} to {last} at step {steps[-1]:,.0f}"
    start = f'<svg class="plot {size}" role="img" aria-label="{label}" viewBox="0 0 {72 * width:g} {72 * height:g}">'
    text = start + text[text.index(">") + 1 :]
    for colour, variable in COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    return text.strip()
