"""Generator Matching (Holderrieth et al. 2024, arXiv 2410.20587): claims that a laptop can test."""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.claims import Claim, tested, untestable
from feller_papers.generator_matching import checkerboard, counts, digits, joint, kernels, theory, torsions
from feller_papers.generator_matching.setting import Setting

TESTS = (
    kernels.forward_equation,
    kernels.circle,
    kernels.survival,
    theory.same_gradient,
    theory.keeps_marginals,
    theory.parts_together,
    checkerboard.transports,
    checkerboard.superposition,
    checkerboard.rules,
    digits.quality,
    digits.order,
    digits.rules,
    joint.coupled,
    torsions.quality,
    torsions.against_flows,
    counts.few_calls,
)
"""(setting) -> claims."""

BEYOND = (
    untestable(
        "CIFAR-10 without labels: FID of flow, jumps, both by Euler steps; flow, both by steps of second order",
        "2.94, 4.23, 2.49; 2.48, 2.36",
        "needs GPUs and CIFAR-10",
    ),
    untestable(
        "ImageNet 32 x 32 with blurred faces: FID of flow, jumps, both by Euler steps; flow, both by second order",
        "4.58, 7.66, 3.47; 3.59, 3.33",
        "needs many GPUs and ImageNet",
    ),
    untestable(
        "Jumps of orientations make protein backbones more diverse: MultiFlow, structure alone, with sequence",
        "0.52 to 0.63, 0.38 to 0.48",
        "needs the weights of MultiFlow and ESMFold",
    ),
)
"""Claims that need more than a laptop."""


def generator_matching(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims; `only` selects tests by part of their name."""
    setting = Setting(seeds=(0, 1, 2), points=2500, digits=1000, angles=1500, counts=800, draws=8000, data=data)
    if quick:
        setting = replace(setting, seeds=(0,), points=300, digits=300, angles=200, counts=200)
        setting = replace(setting, draws=1500, counted=3000, calls=16)
    return tested(TESTS, setting, only, BEYOND)
