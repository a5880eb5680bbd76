"""Flow Matching Guide and Code (Lipman et al. 2024, arXiv 2412.06264): its continuous claims that a laptop can test."""

import pathlib
from collections.abc import Iterator

from feller_papers.claims import Claim, tested, untestable
from feller_papers.flow_matching_guide import fields, geometry, likelihood, transport
from feller_papers.flow_matching_guide.setting import Setting

TESTS = (
    fields.same_gradient,
    fields.same_field,
    fields.same_end,
    fields.noise_keeps_marginals,
    transport.transport_cost,
    transport.kinetic_energy,
    transport.transport_coupling,
    transport.checkerboard,
    geometry.closed_form,
    geometry.premetric,
    likelihood.change_of_variables,
    likelihood.hutchinson,
    likelihood.integrates_to_one,
    geometry.earth,
    geometry.torsions,
)
"""(setting) -> claim, or claims."""

BEYOND = (
    untestable("CIFAR-10 without labels: FID of the U-Net after 1,800 epochs", "2.07", "needs 8 GPUs and CIFAR-10"),
    untestable("ImageNet 64 x 64 (blurred), class-conditional: FID", "1.64", "needs 64 GPUs and ImageNet"),
)
"""Claims that need more than a laptop."""


def flow_matching_guide(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the tested claims; `only` selects tests by part of their name."""
    setting = Setting((0,), 1500, data) if quick else Setting((0, 1, 2), 4000, data)
    return tested(TESTS, setting, only, BEYOND)
