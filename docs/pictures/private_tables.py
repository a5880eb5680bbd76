"""Draws private_tables.png: pairs of columns and what rows are worth, against epsilon, one line for each method.

`python private_tables.py [FOLDER]`: FOLDER holds tables that are not inside the package; each has a panel of its own.
"""

import math
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from feller_papers.private_tables.figures import Figure, called, number, read_off, worth
from feller_papers.private_tables.methods import COMPARED, Way
from feller_papers.private_tables.setting import STRONG, Setting
from feller_papers.private_tables.tables import there

BEYOND = 25.0
"""Where models without privacy are drawn."""


def line(setting: Setting, name: str, way: Way, figure: Figure) -> tuple[list[float], list[float]]:
    """Return the epsilons, and the mean figure at each."""
    across = [BEYOND if budget.epsilon is None else budget.epsilon for budget in setting.budgets]
    up = [read_off(setting, name, way, budget, figure) for budget in setting.budgets]
    return across, [sum(one) / len(one) for one in up]


def main() -> None:
    """Measure, and draw."""
    setting = Setting(seeds=(0,), data=pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    names = list(there(setting))
    figure, axes = plt.subplots(2, len(names), figsize=(4.5 * len(names), 6), layout="constrained", squeeze=False)
    for column, name in enumerate(names):
        told = "AUC of boosted trees" if called(setting, name, COMPARED[0], STRONG) == "AUC" else "R^2 of boosted trees"
        for axis, what, read in zip(axes[:, column], ("TV2", told), (number("tv2"), worth), strict=True):
            for way in COMPARED:
                across, up = line(setting, name, way, read)
                if not any(map(math.isnan, up)):
                    axis.plot(across, up, marker="o", markersize=4, label=way.name)
            axis.set_xscale("log")
            axis.set_xticks([1, 5, 10, BEYOND], ["1", "5", "10", "no privacy"])
            axis.minorticks_off()
            axis.set_ylabel(what)
        axes[0, column].set_title(name, fontsize=10)
        axes[1, column].set_xlabel("epsilon")
    axes[1, 0].legend(frameon=False, fontsize=8, loc="center right")
    figure.savefig(pathlib.Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
