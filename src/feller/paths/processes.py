"""Markov processes given by local characteristics, and operations on them.

Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587: the parts of a generator add.
"""

import copy
import functools
import math
import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError, found_instead
from feller.core.pytree import State, append_dims, broadcast_time, is_concrete, tree_map
from feller.core.rng import RandomStream
from feller.core.user_code import qualified_name

Weight = float | Tensor
"""Scalar weight, or one weight per example, [b]."""


def _scale(tensor: Tensor, weight: Weight) -> Tensor:
    """Return a tensor times a weight, one for all or one per example; zero times infinity is zero."""
    if isinstance(weight, Tensor):
        if weight.ndim > tensor.ndim:
            raise ValueError(
                f"expected one value per example, as for weights {tuple(weight.shape)}, got shape {tuple(tensor.shape)}"
            )
        weight = append_dims(weight, tensor)
        return torch.where(weight == 0, torch.zeros_like(tensor), weight * tensor)
    return weight * tensor if weight else torch.zeros_like(tensor)


def _sample_jump_mask(hazard: Tensor, rng: RandomStream) -> Tensor:
    """Sample the mask of entries that jump at least once; faster if all share one hazard broadcast by `expand`."""
    # with one entry per example, a batch of one would look shared and sample differently
    has_several = hazard[:1].numel() > 1
    is_shared = all(size == 1 or not stride for size, stride in zip(hazard.shape, hazard.stride(), strict=True))
    if has_several and is_shared and hazard.device.type == "cpu":
        return rng.bernoulli(-math.expm1(-float(hazard[(0,) * hazard.ndim])), hazard.shape)
    return rng.uniform(hazard.shape, torch.float64, hazard.device) < -torch.expm1(-hazard.double())


def destination_shape_error(
    sample_destination: Callable[..., Any], destination: Any, expected_shape: tuple[int, ...]
) -> InputError:
    """Return the error for a user-defined function `sample_destination` whose result has the wrong shape."""
    found = list(destination.shape) if isinstance(destination, Tensor) else f"a {type(destination).__name__}"
    return InputError(
        f"one destination from {qualified_name(sample_destination)} per jumping entry, {list(expected_shape)}",
        found,
        "Select the masked entries, as in destinations[mask]",
    )


@dataclass(frozen=True)
class Jumps:
    """Independent jumps of the entries of a state after the current time."""

    hazard: Callable[[float], Tensor]
    """s -> expected number of jumps of each entry until time s, [b, ...]; infinite for an entry that must jump."""
    sample_destination: Callable[[float, Tensor, RandomStream], Tensor]
    """(s, mask, rng) -> values at time s of the entries in `mask`, [mask.sum(), ...]."""
    components: tuple["Jumps", ...] = ()
    """Terms of a sum of jumps; empty for a single term."""
    select: Callable[[Tensor, float, RandomStream], Tensor] | None = None
    """(hazard, s, rng) -> mask of entries that jump, with the same random numbers as `sample_destination`; None for
    independent jumps."""

    def apply(self, x: Tensor, s: float | Tensor, rng: RandomStream) -> Tensor:
        """Sample which entries jump before time s, and sample destinations for those only.

        Jumps of whole sequences take one time per example, [b], too.
        """
        s = cast(float, s)
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
        """Scale the hazard by a weight and keep the destinations."""
        if self.components:
            first, *others = (component * weight for component in self.components)
            return functools.reduce(operator.add, others, first)
        return Jumps(lambda s: _scale(self.hazard(s), weight), self.sample_destination, select=self.select)

    def with_destinations(self, later: "Jumps") -> "Jumps":
        """Return jumps with the hazards of `self` and the destinations of `later`.

        `later` holds the jumps of the same process from a later evaluation. If jumps are sums, their terms are paired.
        """
        if self.components:
            first, *others = (a.with_destinations(b) for a, b in zip(self.components, later.components, strict=True))
            return functools.reduce(operator.add, others, first)
        return Jumps(self.hazard, later.sample_destination, select=self.select)

    def __add__(self, other: "Jumps") -> "Jumps":
        """Superpose jumps: hazards add, and each jump samples its term in proportion; the first `select` applies."""

        def sample_destination(s: float, mask: Tensor, rng: RandomStream) -> Tensor:
            first, second = self.hazard(s)[mask].double(), other.hazard(s)[mask].double()
            is_certain = torch.isinf(first + second)
            if is_certain.any():  # certain jumps use the odds just before s
                just_before = s - 1e-6
                first = torch.where(is_certain, self.hazard(just_before)[mask].double(), first)
                second = torch.where(is_certain, other.hazard(just_before)[mask].double(), second)
            u = rng.uniform(mask.shape, torch.float64, mask.device)[mask]
            is_first = u * (first + second) < first
            destinations = []
            for jumps, selected in ((self, is_first), (other, ~is_first)):
                submask = torch.zeros_like(mask)
                submask[mask] = selected
                destinations.append((selected, jumps.sample_destination(s, submask, rng)))
            out = destinations[0][1].new_empty(len(u), *destinations[0][1].shape[1:])
            for selected, values in destinations:
                out[selected] = values.to(out.dtype)
            return out

        def hazard(s: float) -> Tensor:
            first, second = self.hazard(s), other.hazard(s)
            if first.shape != second.shape:
                raise ValueError(
                    f"expected hazards of equal shape, got {tuple(first.shape)} and {tuple(second.shape)}; jumps of "
                    "whole examples cannot be added to jumps of their entries"
                )
            return first + second

        return Jumps(hazard, sample_destination, (self, other), self.select or other.select)


@dataclass(frozen=True)
class Characteristics:
    """Local characteristics (velocity, diffusion, jumps) of a generator at one state and time; absent parts are zero.

    A weighted average of generators with the same marginals keeps these marginals: `0.3 * flow + 0.7 * jump`.
    """

    velocity: Tensor | None = None
    """Drift u_t(x), in state units per unit of time."""
    diffusion: Tensor | None = None
    """Variance g_t(x)^2, in squared state units per unit of time; its shape broadcasts to the shape of the state."""
    jumps: Jumps | None = None
    is_tangent: bool = False
    """True if the velocity is tangent to a manifold, so that the solver needs the space."""

    def __mul__(self, weight: Weight) -> "Characteristics":
        """Scale every part by a weight; a weight of zero drops the part, even if it is infinite."""
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
        """Return the sum of two generators."""
        return Characteristics(
            _both(self.velocity, other.velocity),
            _both(self.diffusion, other.diffusion),
            _both(self.jumps, other.jumps),
            self.is_tangent or other.is_tangent,
        )


def _both(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


Process = Callable[..., State]
"""Markov process: (x_t, t) -> `Characteristics` of its generator, from one network call.

For a state with named components (leaves), a process returns a dict of `Characteristics`. `Path.process` builds a
process from a network. A process with an attribute `takes_end` that is True is a flow map: called as (x_t, t, s), its
velocity is the average velocity of the step from t to s, and x_t + (s - t) velocity is the state at s.
"""


Score = Callable[[State, State], State]
"""(x_t, t) -> gradient of the log density of the marginal at t."""


def takes_end(process: Process) -> bool:
    """Return True if a process may be called with the end of its step, as (x_t, t, s)."""
    return getattr(process, "takes_end", False)


def like_process(wrapper: Process, process: Process) -> Process:
    """Return the wrapper of a process, marked as a flow map if the process is one; it passes the end of a step on."""
    wrapper.takes_end = takes_end(process)  # pyrefly: ignore[missing-attribute] - a function may carry it
    return wrapper


def clamp(process: Process, observed_mask: State) -> Process:
    """Return the process with observed entries (True in `observed_mask`, a tree like the state) held fixed.

    Its attribute `observed_mask` tells a simulation to hold these entries with any solver.
    """

    def clamped_process(x: State, t: State, *end: State) -> State:
        return tree_map(lambda leaf, mask: leaf * (~mask).to(torch.float32), process(x, t, *end), observed_mask)

    clamped_process.observed_mask = observed_mask  # pyrefly: ignore[missing-attribute] - a function may carry it
    return like_process(clamped_process, process)


def freeze_leaves(process: Process, names: Collection[str]) -> Process:
    """Return the process in which the components (leaves) `names` of the state keep their data values, with t = 1."""

    def frozen_process(x: State, t: State, *end: State) -> State:
        t = {name: torch.ones_like(time) if name in names else time for name, time in broadcast_time(t, x).items()}
        return {name: Characteristics() if name in names else leaf for name, leaf in process(x, t, *end).items()}

    return like_process(frozen_process, process)


def reverse(process: Process, score: Score) -> Process:
    """Return the time reversal of a diffusion: the process of Y_r = X_{1 - r}, for an increasing grid of r.

    In reversed time, the drift is g^2 score - u, with u the velocity and g^2 the diffusion of the process. An Euler
    step with a negative step size would not reverse a diffusion: it would spread the distribution.
    Source: Anderson 1982, "Reverse-time diffusion equation models".

    Args:
        process: Velocity and diffusion; the diffusion must not depend on the state.
        score: (x, t) -> gradient of the log density of the marginal at t.

    Raises:
        ValueError: If the process jumps.
    """

    def backwards(x: State, r: State) -> State:
        t = tree_map(lambda r: 1 - r, r)

        def reverse_leaf(forward: Characteristics, s: Tensor) -> Characteristics:
            if forward.jumps is not None:
                raise ValueError("expected a process without jumps; `reverse` supports velocities and diffusions")
            velocity = None if forward.velocity is None else -forward.velocity
            score_drift = None if forward.diffusion is None else forward.diffusion * s
            return Characteristics(_both(velocity, score_drift), forward.diffusion, is_tangent=forward.is_tangent)

        return tree_map(reverse_leaf, process(x, t), score(x, t))

    return backwards


def superpose(*terms: tuple[Weight, Process]) -> Process:
    """Return the weighted average of processes with the same marginals; the average has these marginals too.

    Raises:
        UsageError: If a term is not a (weight, process) pair, a weight is negative or not finite, or the weights do
            not sum to 1.
    """
    example = "Use superpose((0.7, flow), (0.3, jumps)); add marginal-preserving processes with feller.add(flow, noise)"
    for term in terms:
        if not (isinstance(term, tuple) and len(term) == 2 and callable(term[1]) and _is_weight(term[0])):
            expected, found = "pairs of a weight and a process", found_instead(term)
            raise UsageError(argument="terms", expected=expected, found=found, remedy=example)
    if not all(_is_valid_weight(weight) for weight, _ in terms):
        found = " and ".join(found_instead(weight) for weight, _ in terms)
        raise UsageError(argument="terms", expected="finite weights of at least 0", found=found, remedy=example)
    scalar_weights = [float(weight) for weight, _ in terms if not isinstance(weight, Tensor)]
    if len(scalar_weights) == len(terms) and abs(sum(scalar_weights) - 1) > 1e-6:
        raise UsageError(
            argument="terms",
            expected="weights that sum to 1, which keeps the marginals",
            found=f"{sum(scalar_weights):g}" if scalar_weights else "none",
            remedy=example,
        )
    return _sum(terms)


def _is_weight(weight: object) -> bool:
    return isinstance(weight, Tensor | Real) and not isinstance(weight, bool)


def _is_valid_weight(weight: Weight) -> bool:
    """Return True for finite weights of at least 0, since noise and jumps have no negative multiples."""
    if not isinstance(weight, Tensor):
        return 0 <= weight < math.inf
    return not is_concrete(weight) or bool(((weight >= 0) & weight.isfinite()).all())


def _sum(terms: Sequence[tuple[Weight, Process]]) -> Process:
    def process(x: State, t: State) -> State:
        total = None
        for weight, term in terms:
            scaled = tree_map(lambda leaf, weight=weight: leaf * weight, term(x, t))
            total = scaled if total is None else tree_map(lambda a, b: a + b, total, scaled)
        return total

    return process


def add(*processes: Process) -> Process:
    """Return the sum of processes, such as a flow and a process of `feller.paths.divergence_free`."""
    return _sum([(1.0, process) for process in processes])
