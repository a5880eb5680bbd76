"""Words that are understood by calls of the network, and below noise, from the claims of a run."""

import pathlib
import re

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from style import BLUE, ORANGE

from feller_papers.claims import Claim
from papers.entry import Paper
from papers.told import claim_of


def draw(claims: pathlib.Path | None) -> tuple[Figure, Claim]:
    """Read shares out of what `feller reproduce voicebox --json` printed."""
    claim = claim_of(claims, "quality hardly depends on the number of calls")
    calls = [int(x) for x in re.search(r"by ([\d, ]+) calls", claim.ours).group(1).split(", ")]
    right, alike = ([float(x) for x in part.split(", ")] for part in re.findall(r": ((?:0\.\d+(?:, )?)+)", claim.ours))
    figure, axes = plt.subplots(figsize=(6.4, 2.7), layout="constrained")
    axes.plot(calls, right, marker="o", color=BLUE, label="share of words that are understood")
    axes.plot(calls, alike, marker="o", color=ORANGE, label="similarity to the voice of the prompt")
    axes.set_xscale("log", base=2)
    axes.set_xticks(calls, [str(n) for n in calls])
    axes.set_ylim(0.8, 1.01)
    axes.set_xlabel("calls of the network")
    axes.legend(loc="lower right")
    return figure, claim


PAPER = Paper(
    title="Text-Guided Multilingual Universal Speech Generation at Scale (Voicebox)",
    arxiv="2306.15687",
    run="full run, seeds 0, 1, 2",
    caption="Generation of three spoken digits after a prompt of two digits. The plots show the fraction of recognised "
    "words and the voice similarity against the number of network calls.",
    draw=draw,
    anchor="text-guided-multilingual-universal-speech-generation-at-scale-voicebox-arxiv-230615687",
)
