"""D-Flow (Ben-Hamu et al. 2024, arXiv 2402.14017): claims that a laptop can test."""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.claims import Claim, tested, untestable
from feller_papers.d_flow import molecules, restoring, theory
from feller_papers.d_flow.setting import Setting

TESTS = (
    theory.gain,
    theory.gradient,
    theory.draws_of_the_posterior,
    theory.mean_of_the_posterior,
    restoring.means_beat_wiener,
    restoring.better_than_guidance,
    restoring.tuned_guidance,
    restoring.means_of_both,
    restoring.discrepancy,
    molecules.properties,
)
"""(setting) -> claims."""

BEYOND = (
    untestable(
        "ImageNet at 128 x 128: FID, LPIPS, PSNR and SSIM of in-painting, twice as many pixels and deblurring",
        "better than or beside RED-Diff, OT-ODE and PiGDM",
        "needs GPUs, ImageNet and a flow that was trained on it",
    ),
    untestable(
        "MS-COCO: free-form in-painting in the latents of a text-to-image model",
        "better than or beside RED-Diff and PiGDM",
        "needs GPUs and a text-to-image model",
    ),
    untestable(
        "Music: masked spans filled by a text-to-music flow, by FAD and similarity to the text",
        "better than the model without a search",
        "needs GPUs, a text-to-music model and its judges",
    ),
)
"""Claims that need more than a laptop."""


def d_flow(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims; `only` selects tests by part of their name."""
    setting = Setting(seeds=(0, 1, 2), base_steps=2500, search_steps=40, num_test=48, num_samples=10_000, data=data)
    if quick:
        setting = replace(setting, seeds=(0,), base_steps=400, search_steps=15, num_test=12, num_samples=400)
    return tested(TESTS, setting, only, BEYOND)
