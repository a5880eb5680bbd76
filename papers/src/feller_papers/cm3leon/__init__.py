"""CM3Leon: one autoregressive model of text and pictures, on synthetic pictures.

Source of the claims: Yu et al. 2023, "Scaling autoregressive multi-modal models: pretraining and instruction
tuning", arXiv 2309.02591.
"""

import pathlib
from collections.abc import Iterator

from feller_papers.claims import Claim, tested, untestable
from feller_papers.cm3leon import contrast, guidance, infilling, retrieval, sizes, tuning
from feller_papers.cm3leon.setting import QUICK, Setting

CLAIM_TESTS = (
    retrieval.perplexity,
    retrieval.unseen,
    retrieval.same_steps,
    sizes.perplexity,
    guidance.weights,
    guidance.sizes,
    contrast.diversity,
    contrast.mixture,
    infilling.captions,
    infilling.holes,
    tuning.tasks,
)
"""Claim tests, (setting) -> claims."""

UNTESTABLE_CLAIMS = (
    untestable("MS-COCO, zero shot, 7B, two documents: FID-30K", "4.88", "needs 340 million pairs and 512 GPUs"),
    untestable(
        "CIDEr on COCO, accuracy on VQA2, VizWiz and OKVQA after tuning, 7B",
        "61.6, 47.6, 37.6 and 23.8",
        "needs the 7B model and these data",
    ),
    untestable("five times less compute than models with the same FID", "FID by hours of an A100", "needs many GPUs"),
    untestable("one picture of 256 x 256, 7B", "11.8 s in bfloat16, 9.1 s in 8 bits", "needs the 7B model and a GPU"),
)
"""Claims that need more compute or data than a laptop has."""


def cm3leon(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims in order, or only those of tests with `only` in their name."""
    return tested(CLAIM_TESTS, QUICK if quick else Setting(), only, UNTESTABLE_CLAIMS)
