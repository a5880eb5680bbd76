"""Draws what rows' bounds look like, beside the line for all, and what an attack makes of the rows at both ends.

`python reconstruction_bounds.py [FOLDER]`: FOLDER holds images/mnist; without it the digits of the package are taken.
Writes reconstruction_lines.png, reconstruction_attack.png and reconstruction_rows.png beside itself.
"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from feller_papers.reconstruction_bounds.attacked import SHOWN, run_attack
from feller_papers.reconstruction_bounds.perturbed import SCALE, fitted, lines
from feller_papers.reconstruction_bounds.private import private_run
from feller_papers.reconstruction_bounds.setting import Setting
from feller_papers.reconstruction_bounds.stepwise import line

HERE = pathlib.Path(__file__).parent
FAR = 25.0
"""Orders of magnitude below 1 beyond which a line is not drawn."""
INK, LINE, FREE = "#4477aa", "#cc3311", "#999999"


def histogram(axis: Axes, orders: Tensor, at: list[tuple[float, str, str]], title: str) -> None:
    """Draw bounds of rows, and lines for all of them at powers of 10; those too far off are told alone."""
    axis.hist(orders.tolist(), bins=min(60, len(orders) // 10), color=INK)
    for order, words, style in at:
        if order > -FAR:
            axis.axvline(order, color=LINE, linestyle=style, label=f"{words}: {10**order:.2g}")
        else:
            label = f"{words}: $10^{{{order:.0f}}}$, far to the left"
            axis.plot([], [], color=LINE, linestyle="", marker="<", label=label)
    axis.axvline(0, color=FREE, linestyle=":")
    axis.set_ylim(0, 1.3 * axis.get_ylim()[1])
    axis.legend(frameon=False, fontsize=8, loc="upper center")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("least mean squared error of a pixel, power of 10")
    axis.set_ylabel("rows")
    axis.spines[["top", "right"]].set_visible(False)


def draw_lines(setting: Setting) -> None:
    """Draw both histograms."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    model, private = fitted(setting, constant=False), private_run(setting)
    found = lines(model)
    told = [(found.exact, "all rows", "-"), (found.published_bounds, "all rows, were they of length 1", "--")]
    histogram(left, model.bounds(SCALE).log10(), told, f"{model.name}, 0 against 1, weights told with noise")
    all_of = [(line(private), "all rows", "-")]
    right_title = f"{private.name}, DP-SGD, {100 * private.accuracy:.1f} % of unseen pictures right"
    histogram(right, private.bounds.log10(), all_of, right_title)
    figure.savefig(HERE / "reconstruction_lines.png", dpi=110)


def draw_attack(setting: Setting) -> None:
    """Draw errors of the attack against bounds."""
    found = run_attack(setting)
    figure, axis = plt.subplots(figsize=(5, 4.6), layout="constrained")
    for which, color, words in (
        (found.reliable, INK, "residual stands out of its noise"),
        (~found.reliable, FREE, "other"),
    ):
        axis.scatter(found.bounds[which], found.errors[which], s=3, color=color, linewidths=0, label=words)
    ends = [found.bounds.min().item(), found.bounds.max().item()]
    axis.plot(ends, ends, color=LINE, linewidth=1, label="error = bound")
    axis.axvline(1, color=FREE, linestyle=":", linewidth=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("bound: least mean squared error of a pixel")
    axis.set_ylabel(f"attack: mean over {setting.draws:,} sets of weights")
    axis.set_title(f"{found.name}, 0 against 1: each point is a row", fontsize=10)
    axis.legend(frameon=False, fontsize=8, markerscale=3, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "reconstruction_attack.png", dpi=110)


def strip(axes: list[Axes], rows: Tensor, bounds: Tensor | None, words: str) -> None:
    """Draw pictures beside each other, with their bounds above."""
    for i, (axis, row) in enumerate(zip(axes, rows, strict=True)):
        axis.imshow(row, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color(FREE)
        if bounds is not None:
            axis.set_title(f"{bounds[i].item():.1e}", fontsize=7, pad=2)
    axes[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=8)


def draw_rows(setting: Setting) -> None:
    """Draw the rows at both ends, and their mean reconstructions; then those of the private training."""
    found, private = run_attack(setting), private_run(setting)
    figure, axes = plt.subplots(6, SHOWN, figsize=(8.5, 6.4), layout="constrained")
    side, bounds = found.side, found.bounds[found.extremes]
    low, high = slice(0, SHOWN), slice(SHOWN, 2 * SHOWN)
    for place, part, words in ((0, low, "lowest bounds"), (2, high, "highest bounds")):
        strip(axes[place], found.rows[part].unflatten(1, (side, side)), bounds[part], f"weights told:\n{words}")
        strip(axes[place + 1], found.means[part].unflatten(1, (side, side)), None, "mean\nreconstruction")
    order = private.bounds.argsort()
    for place, which, words in ((4, order[:SHOWN], "lowest bounds"), (5, order.flip(0)[:SHOWN], "highest bounds")):
        strip(axes[place], private.rows[which], private.bounds[which], f"DP-SGD:\n{words}")
    figure.savefig(HERE / "reconstruction_rows.png", dpi=100)


def main() -> None:
    """Measure, and draw."""
    setting = Setting(data=pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    draw_lines(setting)
    draw_attack(setting)
    draw_rows(setting)


if __name__ == "__main__":
    main()
