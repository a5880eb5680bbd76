"""A claim about the corridor between two boxes, a problem that the paper's code poses and its text does not tell of."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from feller.bridging import Bridging, solve_bridge
from feller.control.bridges.pinned import PinnedControl
from feller.draws import Draws
from feller.evaluate.bridge import along, feasibility
from feller.reproduce.claims import Claim, mean_of, spread_of, verdict
from feller.reproduce.gsbm import problems
from feller.reproduce.gsbm.setting import Setting

HOW = Bridging(control=PinnedControl(times=30))
MOST = 5
"""Rounds, at most."""


@dataclass(frozen=True)
class Passed:
    """How a crowd went through a corridor."""

    inside: float
    """Share of the time inside a box, of the learned trajectories and of straight walks."""
    free: float
    reached: float
    """Exact W2 between ends and members, and between members."""
    floor: float


@functools.cache
def passed(setting: Setting, seed: int) -> Passed:
    """Learn to pass."""
    posed, draws = problems.spider(), Draws(seed).named("judge")
    ...
