"""The checkerboard after eight calls: flow, superposition with jumps, midpoint flow."""

import pathlib

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from style import BLUE, GREEN, ORANGE, bare

from feller.core.rng import Rng
from feller_papers.claims import Claim
from feller_papers.generator_matching.checkerboard import FEW, distance, fitted, superposition
from feller_papers.generator_matching.setting import BOTH, FLOW, MIDPOINT, Setting
from papers.entry import Paper

SETTING = Setting(seeds=(0,), points=1000, digits=300, angles=200, counts=200, draws=4000)
SHOWN = 2048


def draw(data: pathlib.Path | None) -> tuple[Figure, Claim]:
    """Test the claim, and draw what its network gives in three ways."""
    claim = superposition(SETTING)[0]
    figure, panels = plt.subplots(1, 3, figsize=(6.4, 2.5), layout="constrained", sharex=True, sharey=True)
    ways = ((FLOW, "Euler flow", ORANGE), (BOTH, "half jumps", BLUE), (MIDPOINT, "midpoint flow", GREEN))
    for axes, (way, name, colour) in zip(panels, ways, strict=True):
        drawn = fitted(SETTING.points, 0).samples(way, FEW, SHOWN, Rng(0).fold_in("samples"))
        axes.scatter(*drawn.T, s=1.5, color=colour, linewidths=0)
        bare(axes).set_title(f"{name}: {distance(SETTING, way, FEW, 0):.3f}")
        axes.set_aspect("equal")
        axes.set_xlim(-2.6, 2.6)
        axes.set_ylim(-2.6, 2.6)
    return figure, claim


PAPER = Paper(
    title="Generator Matching",
    arxiv="2410.20587",
    run="seed 0, 1,000 training steps",
    caption="Samples of one network with 8 network calls by three samplers, and their sliced W1 distance to real "
    "points. Jumps improve on Euler steps; midpoint steps improve more.",
    draw=draw,
    anchor="generator-matching-arxiv-241020587",
)
