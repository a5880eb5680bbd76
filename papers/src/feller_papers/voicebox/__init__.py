"""Voicebox: speech infilling on concatenated spoken digits.

Source of the claims: Le et al. 2023, "Voicebox: Text-guided multilingual universal speech generation at scale",
arXiv 2306.15687.
"""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller.networks.audio.frame_infiller import FrameInfiller
from feller_papers.claims import Claim, tested, untestable
from feller_papers.voicebox import comparisons, durations, guidance, headline, recognising, tasks
from feller_papers.voicebox.models import DURATION_MODELS, JUDGES, MAIN, PATHS
from feller_papers.voicebox.setting import Setting
from feller_papers.voicebox.spoken import ClaimTest

REQUIRED_MODELS: dict[ClaimTest, tuple[str, ...]] = {
    headline.understood: (MAIN, JUDGES),
    headline.whisper: (MAIN,),
    headline.fast: (MAIN,),
    recognising.synthetic: (MAIN, "at once", "drawn"),
    comparisons.losses: ("flow", "regression", "everywhere", JUDGES),
    comparisons.paths: (*PATHS, JUDGES),
    guidance.weights: (MAIN, JUDGES),
    guidance.prompts: (MAIN, JUDGES),
    tasks.noise: (MAIN, JUDGES),
    tasks.editing: (MAIN, "at once", JUDGES),
    durations.kinds: (*DURATION_MODELS,),
}
"""Claim tests, (setting) -> claims, and the models that each needs."""

UNTESTABLE_CLAIMS = (
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
"""Claims that need more compute, data or people than a laptop has."""
QUICK = Setting(
    seeds=(0,),
    network=FrameInfiller(64, 4, 4),
    duration_network=FrameInfiller(32, 2, 2),
    steps=1200,
    comparison_steps=400,
    duration_steps=300,
    judge_steps=300,
    recogniser_steps=200,
    num_chains=16,
    few_chains=8,
    nfes=(4, 8, 16),
    guidance_weights=(1.0, 1.7, 3.0),
    num_samples=2,
    generated_chains=60,
)
"""One seed and smaller networks: some ten minutes on one processor core."""


def voicebox(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims in order, or only those of tests with `only` in their name."""
    setting = replace(QUICK if quick else Setting(), data=data)
    models = {
        model
        for test, models_of_test in REQUIRED_MODELS.items()
        if only in _test_name(test)
        for model in models_of_test
    }
    return tested(REQUIRED_MODELS, replace(setting, models=tuple(sorted(models))), only, UNTESTABLE_CLAIMS)


def _test_name(test: ClaimTest) -> str:
    return f"{test.__module__.rpartition('.')[2]}.{test.__name__}"
