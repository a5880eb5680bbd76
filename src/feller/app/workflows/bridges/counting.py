"""How much members count where populations grow and shrink."""

import numpy as np

from feller.app.workflows.bridges.bridge_run import Bridged
from feller.app.workflows.bridges.trajectory_files import Counts
from feller.control.bridges.population import Crowd
from feller.control.bridges.problem import BridgeProblem
from feller.evaluation.report.wording import percent

MORE, LESS = 2.0, 0.5
"""Times of the mean from which a member counts much more than others, and below which much less."""


def counts_of(problem: BridgeProblem) -> Counts:
    """Return what the members of each leg count, 1 in the mean; nothing where all count alike."""
    legs = [(_counts(one), _counts(other)) for one, other in problem.crowds]
    return [(a, b) for a, b in legs if a is not None and b is not None]


def growing(counts: Counts, bridged: Bridged) -> list[str]:
    """Say of each leg which share of its members divides, or dies out."""
    said = []
    for (begins, _), name in zip(counts, bridged.populations, strict=False):
        more, less = float((begins >= MORE).mean()), float((begins < LESS).mean())
        said.append(
            f"by --growth, {percent(more)} of the members of {name} count twice the mean or more, as those that divide,"
            f" and {percent(less)} less than half of it, as those that die; one is {begins.max():.3g} times the mean"
            " (counts.csv)"
        )
    return said


def _counts(crowd: object) -> np.ndarray | None:
    if not isinstance(crowd, Crowd) or crowd.weights is None:
        return None
    weights = crowd.weights.double().cpu().numpy()
    return weights * (len(weights) / weights.sum())
