"""Voicebox: speech that is filled in, on spoken digits that are chained to utterances.

Source of what is claimed: Le et al. 2023, "Voicebox: Text-guided multilingual universal speech generation at scale",
arXiv 2306.15687.
"""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller.networks.audio.frame_infiller import FrameInfiller
from feller_papers.claims import Claim, tested, untestable
from feller_papers.voicebox import comparisons, durations, guidance, headline, recognising, tasks
from feller_papers.voicebox.models import JUDGES, LENGTHS, LONG, PATHS
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import Test

NEEDS: dict[Test, tuple[str, ...]] = {
    headline.understood: (LONG, JUDGES),
    headline.whisper: (LONG,),
    headline.fast: (LONG,),
    recognising.synthetic: (LONG, "at once", "drawn"),
    comparisons.losses: ("flow", "regression", "everywhere", JUDGES),
    comparisons.paths: (*PATHS, JUDGES),
    guidance.weights: (LONG, JUDGES),
    guidance.prompts: (LONG, JUDGES),
    tasks.noise: (LONG, JUDGES),
    tasks.editing: (LONG, "at once", JUDGES),
    durations.kinds: (*LENGTHS,),
}
"""(setting) -> claims, and the models that each asks for."""

BEYOND = (
    untestable(
        "LibriSpeech, zero shot, 330 million weights: word error rate, similarity",
        "1.9 %, 0.662",
        "needs 60,000 hours of speech and 32 GPUs",
    ),
    untestable(
        "six languages: prompts in one, texts in another", "word error rate 5.2 %", "needs 50,000 hours of speech"
    ),
    untestable("opinions of people on quality and likeness", "3.78 and 3.71 of 5", "needs people"),
    untestable("similarity by hours of speech: 60, 600, 6,000, 60,000", ".151, .417, .573, .645", "needs the speech"),
)
"""What no laptop can test."""
QUICK = Setting(
    seeds=(0,),
    network=FrameInfiller(64, 4, 4),
    small=FrameInfiller(32, 2, 2),
    steps=1200,
    short=400,
    lengths=300,
    judge=300,
    listener=200,
    chains=16,
    few=8,
    calls=(4, 8, 16),
    weights=(1.0, 1.7, 3.0),
    draws=2,
    made=60,
)
"""One seed and a smaller network: some ten minutes of one processor core."""


def voicebox(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Test the paper's claims one after the other, or only those of tests with `only` in their name."""
    setting = replace(QUICK if quick else Setting(), data=data)
    asked = {name for test, names in NEEDS.items() if only in _name(test) for name in names}
    return tested(NEEDS, replace(setting, kinds=tuple(sorted(asked))), only, BEYOND)


def _name(test: Test) -> str:
    return f"{test.__module__.rpartition('.')[2]}.{test.__name__}"
