"""Digits of the metric path in four calls, by increments and by rates."""

import pathlib

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from style import bare

from feller.core.rng import Rng
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller_papers.claims import Claim
from feller_papers.kinetic_optimal.digits import euler_rates, step_rule
from feller_papers.kinetic_optimal.pictures import identity, train_model
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.pictures import digits
from papers.entry import Paper

SETTING = Setting(seeds=(0,), digits=800, text=60, windows=64)
ROWS, CALLS = 2, 4


def draw(data: pathlib.Path | None) -> tuple[Figure, Claim]:
    """Test the claim, and draw digits from the same source points in both ways."""
    (claim,) = step_rule(SETTING)
    model, labels = train_model(digits(SETTING.digits), "metric", 0), torch.arange(10).repeat(ROWS)
    draws = Rng(0).fold_in("gallery")
    figure, every = plt.subplots(2 * ROWS + 1, 10, figsize=(6.4, 3.3), height_ratios=[1, 1, 0.25, 1, 1])
    for axes in every[ROWS]:
        bare(axes)
    panels = every[[0, 1, 3, 4]]
    for half, (change, name) in enumerate(((identity, "increments"), (euler_rates, "rates times the step"))):
        path, network = change(model.spec.path, model.network)
        x_0 = model.spec.space.sample_base(len(labels), draws.stream("source"))
        with torch.no_grad():
            x_1 = simulate(path.process(network, {"label": labels}), x_0, linear_grid(CALLS), Euler(), draws)
        found = model.spec.modality.decode(x_1)[:, 0]
        for axes, picture in zip(panels[half * ROWS : (half + 1) * ROWS].flat, found, strict=True):
            bare(axes).imshow(picture, cmap="gray_r", vmin=0, vmax=16, interpolation="nearest")
        panels[half * ROWS, 0].set_title(f"{CALLS} calls, {name}", loc="left")
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.91, wspace=0.08, hspace=0.12)
    return figure, claim


PAPER = Paper(
    title="Flow Matching with General Discrete Paths",
    arxiv="2412.03487",
    run="seed 0, 800 training steps",
    caption="Digits, whose 17 grey levels are tokens, sampled along the metric path with two rules for a step. Both "
    "rules use the same network and the same source samples.",
    draw=draw,
    anchor="flow-matching-with-general-discrete-paths-arxiv-241203487",
)
