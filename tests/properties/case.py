"""Facts about a kind that the properties depend on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from feller.core.pytree import State
from feller.core.rng import RandomStream


@dataclass(frozen=True)
class Case:
    """A class, an instance of it and what its conformance suite needs."""

    kind: Any


@dataclass(frozen=True)
class ScheduleCase(Case):
    meets_source: bool = True
    """alpha = 0 and sigma = 1 at t = 0."""
    meets_data: bool = True
    """alpha = 1 and sigma = 0 at t = 1."""


@dataclass(frozen=True)
class PathCase(Case):
    ends: Callable[[int, RandomStream], tuple[State, State]]
    """(n, draw) -> n pairs (x_0, x_1), in float64 where they are real."""
    answer: Callable[[State], State] = lambda target: target
    """Target -> the prediction that is certain of it."""
    meets_ends: bool = True
    """x_t is the source at t = 0 and the data at t = 1."""
    draws: bool = False
    """The path has randomness of its own."""
    mixes: bool = True
    """Entries of a state may be exchanged, repeated or zero, and it is a state still."""
    moves: bool = True
    """A process in time has its marginals."""
    accuracy: float = 1e-6
    """Of the sample, where it is simulated."""


@dataclass(frozen=True)
class ManifoldCase(Case):
    opposite: Callable[[Tensor], Tensor] | None = None
    """Points -> points to which several geodesics are equally short."""
    facets: bool = False
    """It is made of flat pieces: its log is a step of a premetric, no inverse of exp, and places are looked up."""


@dataclass(frozen=True)
class LossCase(Case):
    inputs: Callable[[int, RandomStream], tuple[State, State, State, State]]
    """(n, draw) -> prediction, target, x_t, t of n examples; the second axis has 5 entries, which may be valid."""
    truth: Callable[[State], State] = lambda target: target
    """Target -> the prediction that is certain of it."""
    bregman: bool = True
    """The minimiser of the expected loss is the conditional mean."""


@dataclass(frozen=True)
class SolverCase(Case):
    order: float | None
    """Order of the error in the step, for a velocity; None if it chooses its own steps."""
    backwards: bool = True
    """Follows a velocity on a decreasing grid."""
    noise: bool = False
    """Takes a process with a diffusion."""
    jumps: bool = True
    """Takes a process with jumps."""
    splits: bool = True
    """An example's result does not depend on the batch that it is in."""


@dataclass(frozen=True)
class ObjectiveCase(Case):
    batch: Callable[[int, RandomStream], dict[str, Any]]
    """(n, draw) -> what the data loader gives."""
    network: Callable[[], torch.nn.Module]
    """A new small network, in float64, whose weights are not zero."""
    rows: bool = True
    """An example depends on its own row of the batch alone."""
    random: bool = True
    """Something is drawn."""
