"""Draws private_tables.png: TV2 and utility of samples against epsilon, with one line for each method.

`python private_tables.py [FOLDER]`: FOLDER holds tables that are not in the package; each table has its own panel.
"""

import math
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from feller_papers.private_tables.figures import Metric, metric_by_name, metric_values, utility, utility_name
from feller_papers.private_tables.methods import METHODS, Method
from feller_papers.private_tables.setting import STRONG, Setting
from feller_papers.private_tables.tables import available_tables

NO_PRIVACY = 25.0
"""Abscissa of models without privacy."""


def line(setting: Setting, name: str, method: Method, metric: Metric) -> tuple[list[float], list[float]]:
    """Return the epsilons, and the mean of a metric at each."""
    epsilons = [NO_PRIVACY if budget.epsilon is None else budget.epsilon for budget in setting.budgets]
    by_budget = [metric_values(setting, name, method, budget, metric) for budget in setting.budgets]
    return epsilons, [sum(values) / len(values) for values in by_budget]


def main() -> None:
    """Compute the metrics and draw them."""
    setting = Setting(seeds=(0,), data=pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    names = list(available_tables(setting))
    figure, axes = plt.subplots(2, len(names), figsize=(4.5 * len(names), 6), layout="constrained", squeeze=False)
    for column, name in enumerate(names):
        label = (
            "AUC of boosted trees"
            if utility_name(setting, name, METHODS[0], STRONG) == "AUC"
            else "R^2 of boosted trees"
        )
        for axis, ylabel, metric in zip(axes[:, column], ("TV2", label), (metric_by_name("tv2"), utility), strict=True):
            for method in METHODS:
                epsilons, means = line(setting, name, method, metric)
                if not any(map(math.isnan, means)):
                    axis.plot(epsilons, means, marker="o", markersize=4, label=method.name)
            axis.set_xscale("log")
            axis.set_xticks([1, 5, 10, NO_PRIVACY], ["1", "5", "10", "no privacy"])
            axis.minorticks_off()
            axis.set_ylabel(ylabel)
        axes[0, column].set_title(name, fontsize=10)
        axes[1, column].set_xlabel("epsilon")
    axes[1, 0].legend(frameon=False, fontsize=8, loc="center right")
    figure.savefig(pathlib.Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
