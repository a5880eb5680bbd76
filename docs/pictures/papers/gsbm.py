"""A crowd that passes between two boxes."""

import pathlib

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from style import BLUE, ORANGE, SOFT, bare

from feller.control.bridges.gaussian_paths import GaussianPaths
from feller.core.rng import Rng
from feller_papers.claims import Claim
from feller_papers.gsbm import problems
from feller_papers.gsbm.setting import Budget, Setting
from feller_papers.gsbm.spider import NUM_TRAJECTORIES, corridor, solve_trajectories
from papers.entry import Paper

SETTING = Setting(seeds=(0,), crowd=Budget(2, pairs=256, control_steps=150, steps=400))
SHOWN = 60


def draw(data: pathlib.Path | None) -> tuple[Figure, Claim]:
    """Test the claim, and draw the trajectories that it was tested on."""
    (claim,) = corridor(SETTING)
    problem, rng = problems.spider(), Rng(0).fold_in("judge")
    source, end = (crowd(NUM_TRAJECTORIES, rng.fold_in(place)) for place, crowd in enumerate(problem.populations[0]))
    times = torch.linspace(0, 1, 200)
    steps = rng.stream("way").normal((NUM_TRAJECTORIES, len(times) - 1, 2)) * (times[1] - times[0]).sqrt()
    noise = torch.cat([torch.zeros(NUM_TRAJECTORIES, 1, 2), steps.cumsum(1)], 1)
    plain = GaussianPaths.brownian_bridges(source, end, problem.noise, 2, 2).grid(times).mean
    plain = plain + problem.noise * (noise - times[:, None] * noise[:, -1:])
    figure, panels = plt.subplots(1, 2, figsize=(6.4, 2.7), layout="constrained", sharex=True, sharey=True)
    ways = (
        (plain, "Brownian bridges", ORANGE),
        (solve_trajectories(SETTING, 0).states, "a bridge that knows the walls", BLUE),
    )
    for axes, (states, name, colour) in zip(panels, ways, strict=True):
        for left, right, low, high in problems.Spider().boxes:
            axes.add_patch(Rectangle((left, low), right - left, high - low, color=SOFT, alpha=0.5, linewidth=0))
        for line in states[:SHOWN]:
            axes.plot(*line.T, color=colour, linewidth=0.6, alpha=0.6)
        bare(axes).set_title(name)
        axes.set_xlim(-12, 12)
        axes.set_ylim(-5, 5)
    return figure, claim


PAPER = Paper(
    title="Generalized Schrödinger Bridge Matching",
    arxiv="2310.02233",
    run="seed 0, 2 rounds of 256 pairs",
    caption="Sixty trajectories from the left to the right population; the state cost is high inside the boxes.",
    draw=draw,
    anchor="generalized-schrödinger-bridge-matching-arxiv-231002233",
)
