"""Four modes tuned with two noises."""

import pathlib
from unittest.mock import patch

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from style import BLUE, INK, ORANGE, SOFT, bare

from feller.core.rng import Rng
from feller_papers.adjoint_matching import mixture
from feller_papers.adjoint_matching.setting import Setting
from feller_papers.claims import Claim
from papers.entry import Paper

SETTING = Setting(seeds=(0,), short_rounds=300, long_rounds=300)
SHOWN = 2500


def draw(data: pathlib.Path | None) -> tuple[Figure, Claim]:
    """Test the claim, and draw what its networks sample."""
    networks, fine_tune = [mixture.ModesNetwork(Rng(0))], mixture.fine_tune

    def keeping(*how: object) -> mixture.ModesNetwork:
        networks.append(fine_tune(*how))
        return networks[-1]

    with patch.object(mixture, "fine_tune", keeping):
        claim = next(iter(list(mixture.short(SETTING))))
    figure, panels = plt.subplots(1, 3, figsize=(6.4, 2.6), layout="constrained", sharex=True, sharey=True)
    names = (("untuned", SOFT), ("memoryless noise", BLUE), ("constant noise", ORANGE))
    for axes, network, (name, colour) in zip(panels, networks, names, strict=True):
        x = mixture.flow_samples(network, SETTING.num_points, 0)
        axes.scatter(*x[:SHOWN].T, s=1.5, color=colour, linewidths=0)
        shares = torch.bincount(torch.cdist(x, mixture.TILTED).argmin(1), minlength=4) / len(x)
        for place, share, reward in zip(mixture.CENTRES, shares, mixture.WEIGHTS, strict=True):
            words = f"{share:.0%} ({reward:.0%})"
            up = 1.25 if place[1] > 0 else -1.25
            across = 1.3 if place[0] > 0 else -1.3
            axes.text(across, float(place[1]) + up, words, ha="center", va="center", fontsize=8.5, color=INK)
        bare(axes).set_title(name)
        axes.set_aspect("equal")
        axes.set_xlim(-2.6, 2.6)
        axes.set_ylim(-2.7, 2.7)
    return figure, claim


PAPER = Paper(
    title="Adjoint Matching",
    arxiv="2409.08861",
    run="seed 0, 300 rounds of 256 roll-outs",
    caption="Samples before and after fine-tuning with two kinds of noise. The labels show the fraction of samples in "
    "each mode and, in brackets, the probability of the mode under the tilted distribution.",
    draw=draw,
    anchor="adjoint-matching-arxiv-240908861",
)
