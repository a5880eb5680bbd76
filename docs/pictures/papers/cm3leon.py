"""What retrieved documents are worth, from the claims of a run."""

import pathlib
import re

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from style import BLUE, ORANGE, SOFT

from feller_papers.claims import Claim
from papers.entry import Paper
from papers.told import claim_of


def draw(claims: pathlib.Path | None) -> tuple[Figure, Claim]:
    """Read perplexities and shares out of what `feller reproduce cm3leon --json` printed."""
    claim = claim_of(claims, "more retrieved documents are better")
    memory = claim_of(claims, "a memory lets a model draw what it never learned")
    perplexity = [float(x) for x in re.findall(r"documents ([\d.]+\d)", claim.ours)]
    behind, without, chance = (float(x) for x in re.findall(r"(0\.\d+)", memory.ours))
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.7), layout="constrained")
    left.bar(["0", "1", "2"], perplexity, color=[SOFT, BLUE, BLUE], width=0.6)
    left.set_ylim(1, 1.25)
    left.set_title("perplexity of a code")
    left.set_xlabel("retrieved documents")
    right.bar(["chance", "no memory", "memory"], [chance, without, behind], color=[SOFT, ORANGE, BLUE], width=0.6)
    right.set_ylim(0, 0.5)
    right.set_title("the right creature of 100")
    right.set_xlabel("creatures that nobody learned")
    for axes, values in ((left, perplexity), (right, [chance, without, behind])):
        for place, value in enumerate(values):
            axes.text(place, value, f" {value:g}", ha="center", va="bottom", fontsize=9)
    return figure, claim


PAPER = Paper(
    title="Scaling Autoregressive Multi-Modal Models (CM3Leon)",
    arxiv="2309.02591",
    run="full run, seeds 0, 1, 2",
    caption="Perplexity of held-out images given retrieved documents, and fraction of generated images that show the "
    "creature named in the prompt.",
    draw=draw,
    anchor="scaling-autoregressive-multi-modal-models-cm3leon-arxiv-230902591",
)
