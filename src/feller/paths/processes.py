"""Markov processes, given by their local characteristics, and what can be done to them.

Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587: the parts of a generator add.
"""

import copy
import functools
import math
import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError, found_instead
from feller.core.pytree import State, append_dims, broadcast_time, tree_map
from feller.core.rng import RandomStream
from feller.core.user_code import qualified_name

Weight = float | Tensor
"""One number, or one per example, [b]."""


def _scale(part: Tensor, weight: Weight) -> Tensor:
    """Multiply, where zero times infinity is zero."""
    if isinstance(weight, Tensor):
        if weight.ndim > part.ndim:
            raise ValueError(f"a weight per example needs a part per example, got {tuple(weight.shape)}, {part.shape}")
        weight = append_dims(weight, part)
        return torch.where(weight == 0, torch.zeros_like(part), weight * part)
    return weight * part if weight else torch.zeros_like(part)


def _sample_jump_mask(hazard: Tensor, rng: RandomStream) -> Tensor:
    """Mark those that jump at least once; where all parts share one number by expansion, the cheap way."""
    several = hazard[:1].numel() > 1  # one part per example: a batch of one would look shared, and draw otherwise
    shared = all(size == 1 or not stride for size, stride in zip(hazard.shape, hazard.stride(), strict=True))
    if several and shared and hazard.device.type == "cpu":
        return rng.bernoulli(-math.expm1(-float(hazard[(0,) * hazard.ndim])), hazard.shape)
    return rng.uniform(hazard.shape, torch.float64, hazard.device) < -torch.expm1(-hazard.double())


def destination_shape_error(
    sample_destination: Callable[..., Any], destination: Any, expected_shape: tuple[int, ...]
) -> InputError:
    """Return what to raise where parts that jump are given other places than one each."""
    got = list(destination.shape) if isinstance(destination, Tensor) else f"a {type(destination).__name__}"
    return InputError(
        f"{qualified_name(sample_destination)} to return one value for each of the {expected_shape[0]} parts that jump,"
        f" {list(expected_shape)}",
        got,
        "Take those that are marked, as in places[mask]",
    )


@dataclass(frozen=True)
class Jumps:
    """Jumps of the parts of a state that happen independently, seen from the present time."""

    hazard: Callable[[float], Tensor]
    """Later time s -> expected number of jumps of each part until s, [b, ...]; infinite if it must jump."""
    sample_destination: Callable[[float, Tensor, RandomStream], Tensor]
    """(s, mask, rng) -> where the parts marked in `mask` are at s, [number of marks, ...]."""
    components: tuple["Jumps", ...] = ()
    """What these jumps are the sum of; empty for one kind."""
    select: Callable[[Tensor, float, RandomStream], Tensor] | None = None
    """(hazard, s, rng) -> marks of those that jump, with the numbers that `sample_destination` will draw; None for a
    coin each."""

    def apply(self, x: Tensor, s: float, rng: RandomStream) -> Tensor:
        """Decide who jumps by s, then ask only for those where they land."""
        hazard = self.hazard(s)
        if self.select is None:
            mask, destination_rng = _sample_jump_mask(hazard, rng), rng.fork()
        else:
            destination_rng = rng.fork()
            mask = self.select(hazard, s, copy.copy(destination_rng))
        count = int(mask.count_nonzero())
        if not count:
            return x
        destination = self.sample_destination(s, mask, destination_rng)
        if destination.shape != (count, *x.shape[mask.ndim :]):
            raise destination_shape_error(self.sample_destination, destination, (count, *x.shape[mask.ndim :]))
        destination = destination.to(x.dtype)
        if mask.shape == x.shape:
            return x.masked_scatter(mask, destination)
        y = x.clone()
        y[mask] = destination
        return y

    def __mul__(self, weight: Weight) -> "Jumps":
        """Jump more or less often, to the same places."""
        if self.components:
            first, *others = (kind * weight for kind in self.components)
            return functools.reduce(operator.add, others, first)
        return Jumps(lambda s: _scale(self.hazard(s), weight), self.sample_destination, select=self.select)

    def with_destinations(self, later: "Jumps") -> "Jumps":
        """Return these jumps, each kind landing where the same kind of a later call lets it; who jumps stays."""
        if self.components:
            first, *others = (a.with_destinations(b) for a, b in zip(self.components, later.components, strict=True))
            return functools.reduce(operator.add, others, first)
        return Jumps(self.hazard, later.sample_destination, select=self.select)

    def __add__(self, other: "Jumps") -> "Jumps":
        """Superpose: hazards add, and those that jump choose a kind in proportion; of two orders the first holds."""

        def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
            first, second = self.hazard(s)[mask].double(), other.hazard(s)[mask].double()
            is_certain = torch.isinf(first + second)
            if is_certain.any():  # who must jump chooses by the odds just before
                before = s - 1e-6
                first = torch.where(is_certain, self.hazard(before)[mask].double(), first)
                second = torch.where(is_certain, other.hazard(before)[mask].double(), second)
            u = rng.uniform(mask.shape, torch.float64, mask.device)[mask]
            is_first = u * (first + second) < first
            destinations = []
            for jumps, chosen in ((self, is_first), (other, ~is_first)):
                submask = torch.zeros_like(mask)
                submask[mask] = chosen
                destinations.append((chosen, jumps.sample_destination(s, submask, rng)))
            out = destinations[0][1].new_empty(len(u), *destinations[0][1].shape[1:])
            for chosen, places in destinations:
                out[chosen] = places.to(out.dtype)
            return out

        def hazard(s: float) -> Tensor:
            first, second = self.hazard(s), other.hazard(s)
            if first.shape != second.shape:
                raise ValueError(
                    f"expected jumps of the same parts, got {tuple(first.shape)} and {tuple(second.shape)}; jumps of "
                    "whole examples do not add to those of their parts"
                )
            return first + second

        return Jumps(hazard, sample_destination, (self, other), self.select or other.select)


@dataclass(frozen=True)
class Characteristics:
    """The parts of a generator at one state and time; absent parts are zero.

    Generators with the same marginals may be averaged: `0.3 * flow + 0.7 * jump` has them too.
    """

    velocity: Tensor | None = None
    """Drift u_t(x), in state per time."""
    diffusion: Tensor | None = None
    """Variance g_t(x)^2, in state squared per time; of the state's shape, or broadcast to it."""
    jumps: Jumps | None = None
    is_tangent: bool = False
    """Whether the velocity is tangent to a manifold, which only a solver that knows the manifold can follow."""

    def __mul__(self, weight: Weight) -> "Characteristics":
        """Scale every part; zero drops it, also where it is infinite."""
        if not isinstance(weight, Tensor) and weight == 0:
            return Characteristics()
        return Characteristics(
            None if self.velocity is None else _scale(self.velocity, weight),
            None if self.diffusion is None else _scale(self.diffusion, weight),
            None if self.jumps is None else self.jumps * weight,
            self.is_tangent,
        )

    __rmul__ = __mul__

    def __add__(self, other: "Characteristics") -> "Characteristics":
        """Let both act at once."""
        return Characteristics(
            _both(self.velocity, other.velocity),
            _both(self.diffusion, other.diffusion),
            _both(self.jumps, other.jumps),
            self.is_tangent or other.is_tangent,
        )


def _both(a: Any, b: Any) -> Any:
    """Add tensors or jumps, of which either may be absent."""
    return b if a is None else a if b is None else a + b


Process = Callable[[State, State], State]
"""A Markov process: (x_t, t) -> all parts of its generator, `Characteristics`, from one network call.

For a state with named leaves, a dict of them. `Path.process` makes one of a network; any such function may be one.
"""


def clamp(process: Process, observed_mask: State) -> Process:
    """Let nothing happen to the entries of a state that are known: True, in a tree like the state."""

    def clamped_process(x: State, t: State) -> State:
        return tree_map(lambda now, kept: now * (~kept).to(torch.float32), process(x, t), observed_mask)

    return clamped_process


def freeze_leaves(process: Process, names: Collection[str]) -> Process:
    """Let leaves of a state stand still at their data, at t = 1, while the others move as the process says."""

    def frozen_process(x: State, t: State) -> State:
        t = {name: torch.ones_like(time) if name in names else time for name, time in broadcast_time(t, x).items()}
        return {name: Characteristics() if name in names else now for name, now in process(x, t).items()}

    return frozen_process


def reverse(process: Process, score: Callable[[State, State], State]) -> Process:
    """Run noise backwards: the process of Y_r = X_{1 - r}, for an increasing grid of r.

    The drift is g^2 score - u in reversed time; running an Euler step with negative h instead would let the noise
    spread what it should gather. Source: Anderson 1982, "Reverse-time diffusion equation models".

    Args:
        process: Velocity and diffusion; the diffusion must not depend on the state.
        score: (x, t) -> gradient of the log density of the marginal at t.

    Raises:
        ValueError: If the process jumps.
    """

    def backwards(x: State, r: State) -> State:
        t = tree_map(lambda r: 1 - r, r)

        def reverse_leaf(now: Characteristics, s: Tensor) -> Characteristics:
            if now.jumps is not None:
                raise ValueError("expected a process without jumps; jumps run backwards along their own path")
            velocity = None if now.velocity is None else -now.velocity
            score_drift = None if now.diffusion is None else now.diffusion * s
            return Characteristics(_both(velocity, score_drift), now.diffusion, is_tangent=now.is_tangent)

        return tree_map(reverse_leaf, process(x, t), score(x, t))

    return backwards


def superpose(*terms: tuple[Weight, Process]) -> Process:
    """Average processes that have the same marginals, as a process that has them, too: weights add to one.

    Raises:
        UsageError: If a term is no weight with a process, or the weights add to another number.
    """
    example = "Write superpose((0.7, flow), (0.3, jumps)); what keeps every law is added with feller.add(flow, noise)"
    for term in terms:
        if not (isinstance(term, tuple) and len(term) == 2 and callable(term[1]) and _is_weight(term[0])):
            expected, found = "pairs of a weight and a process", found_instead(term)
            raise UsageError(argument="terms", expected=expected, found=found, remedy=example)
    plain = [float(weight) for weight, _ in terms if not isinstance(weight, Tensor)]
    if len(plain) == len(terms) and abs(sum(plain) - 1) > 1e-6:
        raise UsageError(
            argument="terms",
            expected="weights that add to 1, with which the marginals stay",
            found=f"{sum(plain):g}" if plain else "none",
            remedy=example,
        )
    return _sum(terms)


def _is_weight(weight: object) -> bool:
    return isinstance(weight, Tensor | Real) and not isinstance(weight, bool)


def _sum(terms: Sequence[tuple[Weight, Process]]) -> Process:
    def process(x: State, t: State) -> State:
        total = None
        for weight, term in terms:
            now = tree_map(lambda leaf, weight=weight: leaf * weight, term(x, t))
            total = now if total is None else tree_map(lambda a, b: a + b, total, now)
        return total

    return process


def add(*processes: Process) -> Process:
    """Let all act at once, as those that keep every law do: see `feller.paths.divergence_free`."""
    return _sum([(1.0, process) for process in processes])
