"""The loss over training, drawn as SVG that takes its colours and its width from the page."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float, Int

from feller.evaluation.report.html import element
from feller.evaluation.report.wording import MINUS, Number, brief, is_number, number

Curve = Sequence[Mapping[str, Number]]
"""`step`, `loss` and whatever else was recorded."""
POINTS = 600
"""Single steps that are drawn, at most."""
LINE = 300
"""Corners of the smoothed line, at most."""
SMOOTH = 0.03
"""Share of the run on each side over which the line averages."""
TICKS = 5
BOX = 1000
"""Units of the drawing along each axis; the page stretches it."""
DECADE = 10
HUGE = 1e30
"""A loss as large as this counts as not finite; one below its inverse cannot be told from zero."""


@dataclass(frozen=True)
class Axis:
    """Where numbers lie along one side of the drawing."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the share of the side, in [0, 1] inside the drawing."""
        if self.logarithmic:
            low, high = math.log(self.low), math.log(self.high)
            return (np.log(np.maximum(values, self.low * 1e-3)) - low) / (high - low)
        return (values - self.low) / (self.high - self.low)

    def ticks(self) -> dict[float, str]:
        """Return round numbers between the ends, and how they are written."""
        return _powers(self.low, self.high) if self.logarithmic else _multiples(self.low, self.high)


def _multiples(low: float, high: float) -> dict[float, str]:
    """Return multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * 0.999)
    ticks = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = digits <= 6 and max(-low, high) < 1e6
    return {tick: f"{tick:,.{digits}f}".replace("-", MINUS) if plain else brief(tick) for tick in ticks}


def _powers(low: float, high: float) -> dict[float, str]:
    """Return powers of ten, with steps between them where there is room."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for between in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**p for p, m in itertools.product(powers, between) if low <= m * 10.0**p <= high]
        if len(ticks) <= TICKS + 1:
            break
    return {tick: brief(tick) for tick in ticks[:: -(-len(ticks) // (TICKS + 1))]}


def losses(curve: Curve) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return steps in their order and the loss at each; a step that was done twice counts as last done."""
    known: dict[float, float] = {}
    for entry in curve:
        step, loss = entry.get("step"), entry.get("loss")
        if is_number(step) and step >= 0 and is_number(loss) and abs(loss) < HUGE:
            known[float(step)] = float(loss)
    steps = sorted(known)
    return np.array(steps, dtype=np.float64), np.array([known[step] for step in steps], dtype=np.float64)


def smooth(values: Float[np.ndarray, " n"], at: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Average over neighbours: fewer towards the start, where the loss falls fast, only earlier ones at the end."""
    reach = max(1, round(SMOOTH * len(values)))
    return np.array([values[i - min(i // 2, reach) : i + min(i // 2, reach) + 1].mean() for i in at.tolist()])


def draw(steps: Float[np.ndarray, " n"], loss: Float[np.ndarray, " n"], unit: str) -> Element:
    """Draw at least two points and the line through them."""
    corners = np.unique(np.linspace(0, len(steps) - 1, LINE).round().astype(int))
    line = smooth(loss, corners)
    across, up = Axis(0.0, float(steps[-1])), loss_axis(loss, line)
    every = -(-len(steps) // POINTS)
    dots = "".join(f"M{x} {y}h.01" for x, y in _units(across, up, steps[::every], loss[::every]))
    path = "M" + "L".join(f"{x} {y}" for x, y in _units(across, up, steps[corners], line))
    still = {"vector-effect": "non-scaling-stroke"}
    inner = element(
        "svg",
        {"viewBox": f"0 0 {BOX} {BOX}", "preserveAspectRatio": "none", "width": "100%", "height": "100%"},
        element("path", {"class": "points", "d": dots, **still}),
        element("path", {"class": "line", "d": path, **still}),
    )
    name = f"loss ({unit})" if unit else "loss"
    name = f"{name} on a logarithmic scale" if up.logarithmic else name
    label = (
        f"Loss over training steps: from {number(float(line[0]))} at step {steps[0]:,.0f} to {number(float(line[-1]))}"
        f" at step {steps[-1]:,.0f}"
    )
    marks = [*_rows(up), *_columns(across)]
    axes = [
        element("text", {"class": "name", "x": "-54", "y": "-14"}, name),
        element("text", {"class": "name end", "x": "100%", "y": "100%", "dy": "42"}, "training steps"),
    ]
    svg = element("svg", {"role": "img", "aria-label": label}, *marks, inner, *axes)
    return element("div", {"class": "plot"}, svg)


def loss_axis(loss: Float[np.ndarray, " n"], line: Float[np.ndarray, " m"]) -> Axis:
    """Span the line and nearly all points, by decades if the line falls through one."""
    low = min(float(np.quantile(loss, 0.005)), float(line.min()))
    high = max(float(np.quantile(loss, 0.995)), float(line.max()))
    if line.min() > 1 / HUGE and line.max() >= DECADE * line.min():
        low = max(low, float(line.min()) / 3)
        return Axis(low * (low / high) ** 0.04, high * (high / low) ** 0.04, True)
    sizes = (0.05 * (high - low), 0.1 * abs(high), 1.0)
    room = next(size for size in sizes if size > 1 / HUGE)
    return Axis(low - room, high + room)


def _units(across: Axis, up: Axis, steps: np.ndarray, loss: np.ndarray) -> list[tuple[str, str]]:
    """Place points in the drawing, whose second axis points down."""
    x, y = BOX * across.place(steps), BOX * (1 - up.place(loss).clip(-1, 2))
    return [(f"{a:.1f}", f"{b:.1f}") for a, b in zip(x, y, strict=True)]


def _rows(up: Axis) -> list[Element]:
    """Draw a thin line and a number at each tick of the loss."""
    made = [element("line", {"class": "ground", "x1": "0", "x2": "100%", "y1": "100%", "y2": "100%"})]
    for tick, text in up.ticks().items():
        y = f"{100 * (1 - up.place(np.array([tick]))[0]):.2f}%"
        made.append(element("line", {"x1": "0", "x2": "100%", "y1": y, "y2": y}))
        made.append(element("text", {"class": "end", "x": "-8", "y": y, "dy": ".35em"}, text))
    return made


def _columns(across: Axis) -> list[Element]:
    """Write a number at each tick of the steps."""
    made = []
    for tick, text in across.ticks().items():
        x = f"{100 * tick / across.high:.2f}%"
        if tick == round(tick):
            made.append(element("text", {"class": "middle", "x": x, "y": "100%", "dy": "20"}, text))
    return made
