"""Two moons after four Euler steps, with minibatch transport and without."""

import pathlib
from unittest.mock import patch

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from style import BLUE, ORANGE, SOFT, bare
from torch import nn

from feller import Affine, Euler, IndependentCoupling, MinibatchOT, Rng, linear_grid
from feller.data.loading.dataset_reader import read
from feller.sampling import trajectory
from feller_papers.claims import Claim
from feller_papers.flow_matching_guide import transport
from feller_papers.flow_matching_guide.setting import Setting, fit_points
from papers.entry import Paper

SETTING = Setting((0,), 600)
COUNT, STEPS = 700, 4


def draw(data: pathlib.Path | None) -> tuple[Figure, Claim]:
    """Test the claim, and follow the networks that it was tested with."""
    networks: list[nn.Module] = []

    def keeping(*how: object) -> nn.Module:
        networks.append(fit_points(*how))
        return networks[-1]

    with patch.object(transport, "fit_points", keeping):
        (claim,) = transport.transport_coupling(SETTING)
    figure, panels = plt.subplots(1, 2, figsize=(6.4, 3.2), layout="constrained", sharex=True, sharey=True)
    ways = ((IndependentCoupling(), ORANGE, "independent pairs"), (MinibatchOT(), BLUE, "minibatch transport"))
    test = read("example:moons/test")
    points = test.modality.encode(test.values)
    x_0 = Rng(3).stream("source").normal((COUNT, 2))
    for axes, (_, colour, name), network in zip(panels, ways, networks, strict=True):
        with torch.no_grad():
            process = Affine().process(network, {})
            way = [x_0, *trajectory(process, x_0, linear_grid(STEPS), Euler(), Rng(0))]
        lines = torch.stack(way, 1)[:60]
        axes.scatter(*points.T, s=3, color=SOFT, linewidths=0)
        for line in lines:
            axes.plot(*line.T, color=colour, linewidth=0.5, alpha=0.5)
        axes.scatter(*way[-1].T, s=4, color=colour, linewidths=0)
        bare(axes).set_title(f"{name}: {STEPS} Euler steps")
        axes.set_aspect("equal")
    return figure, claim


PAPER = Paper(
    title="Flow Matching Guide and Code",
    arxiv="2412.06264",
    run="seed 0, two networks trained for 600 steps each",
    caption="Samples after four Euler steps and sixty of their trajectories, for networks trained with independent "
    "pairs and with minibatch optimal transport. The grey points are test data.",
    draw=draw,
    anchor="flow-matching-guide-and-code-arxiv-241206264",
)
