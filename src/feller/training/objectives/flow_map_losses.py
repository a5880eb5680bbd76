"""Conditions on average velocities that make them a flow map: MeanFlow, Lagrangian, shortcut and consistency.

A flow map X(x, t, s) carries a state x from time t to time s along the flow of a velocity v. It is parametrised by the
average velocity u of the step: X(x, t, s) = exp_x((s - t) u(x, t, s)), in flat spaces x + (s - t) u, so that
u(x, t, t) = v(x, t). Each condition below holds for the flow map of v, and for no other function.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from feller.core.errors import check_integer
from feller.core.pytree import State, append_dims, leaves, tree_map
from feller.spaces import Space, as_manifold

AverageVelocity = Callable[[State, Tensor, Tensor], State]
"""Average velocity of a step: (x, t, s) -> u, [b, ...]."""


class Pair(NamedTuple):
    """Training example of a flow map: a step from time t to time s."""

    x: State
    """State at time t on the path, [b, ...]."""
    t: Tensor
    s: Tensor
    velocity: Callable[[], State]
    """Velocity at (x, t): a teacher's, or that of the path given both ends, whose mean is the velocity of the flow."""


class FlowMapLoss(abc.ABC):
    """Condition on the average velocity of a flow map. Subclasses implement `sides`."""

    differentiates_network: ClassVar[bool] = True
    """True if the network is differentiated in forward mode by its time or its state."""
    starts_at_velocity: ClassVar[bool] = True
    """True if the target of an empty step, s = t, is the velocity."""
    flat_only: ClassVar[bool] = False
    """True if the condition holds in flat spaces only."""

    @abc.abstractmethod
    def sides(
        self, u: AverageVelocity, v: Callable[[State, Tensor], State], pair: Pair, space: Space
    ) -> tuple[State, State]:
        """Return both sides of the condition, equal for a flow map: a prediction and its target, without gradient.

        Args:
            u: Average velocity that is trained.
            v: Velocity of the flow, (x, t) -> v: that of a teacher, or u(x, t, t).
            pair: Steps.
            space: Space of the states.
        """


def move(space: Space, x: State, h: Tensor, velocity: State) -> State:
    """Return the states after steps of length h [b] from x with a velocity: exp_x(h velocity)."""
    return as_manifold(space).exp(x, times(h, velocity))


def times(h: Tensor, tree: State) -> State:
    """Return a tree times one number per example, [b]."""
    return tree_map(lambda leaf: append_dims(h, leaf).to(leaf.dtype) * leaf, tree)


def plus(a: State, b: State) -> State:
    """Return the sum of two trees."""
    return tree_map(lambda one, other: one + other, a, b)


def detach(tree: State) -> State:
    """Return a tree without gradient."""
    return tree_map(lambda leaf: leaf.detach(), tree)


def directional_derivative(
    function: Callable[..., State], inputs: tuple[State, ...], tangents: tuple[State, ...]
) -> tuple[State, State]:
    """Return the value of a function of tensors, and its derivative in a direction, in forward mode.

    It is evaluated in the precision of the inputs: under autocast, tangents of group norms have another dtype than
    their values.
    """
    device = next(leaves(inputs[0])).device.type
    # the fused kernels of attention have no forward mode
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(device, enabled=False):
        value, derivative, *_ = torch.func.jvp(function, inputs, tangents)
        return value, derivative


@dataclass(frozen=True)
class MeanFlow(FlowMapLoss):
    """MeanFlow identity u = v + (s - t) du/dt, with the total derivative along the flow: du/dt = v grad u + d_t u.

    This is the Eulerian condition on the flow map, that X(x_t, t, s) is constant along a trajectory; with s = 1, it is
    that of continuous-time consistency models. Sources: Geng et al. 2025, "Mean flows for one-step generative
    modeling", arXiv 2505.13447, equation 10, whose time runs from data to noise; Lu and Song 2024, arXiv 2410.11081.
    """

    flat_only = True

    def sides(
        self, u: AverageVelocity, v: Callable[[State, Tensor], State], pair: Pair, space: Space
    ) -> tuple[State, State]:
        ones, zeros, velocity = torch.ones_like(pair.t), torch.zeros_like(pair.s), pair.velocity()
        value, rate = directional_derivative(u, (pair.x, pair.t, pair.s), (velocity, ones, zeros))
        return value, detach(plus(velocity, times(pair.s - pair.t, rate)))


@dataclass(frozen=True)
class Lagrangian(FlowMapLoss):
    """Lagrangian condition: the end of a step moves with the flow, d_s X(x, t, s) = v(X(x, t, s), s).

    Sources: Boffi et al. 2024, "Flow map matching", arXiv 2406.07507, proposition 3.8; Boffi et al. 2025, "How to build
    a consistency model", arXiv 2505.18825 (LSD).
    """

    def sides(
        self, u: AverageVelocity, v: Callable[[State, Tensor], State], pair: Pair, space: Space
    ) -> tuple[State, State]:
        def end(s: Tensor) -> State:
            return move(space, pair.x, s - pair.t, u(pair.x, pair.t, s))

        state, rate = directional_derivative(end, (pair.s,), (torch.ones_like(pair.s),))
        return rate, detach(v(detach(state), pair.s))


@dataclass(frozen=True)
class Shortcut(FlowMapLoss):
    """Semigroup condition: a step equals two steps of half its length. It needs no derivative of the network.

    Sources: Frans et al. 2024, "One step diffusion via shortcut models", arXiv 2410.12557; Boffi et al. 2025, arXiv
    2505.18825 (PSD). With a teacher, this is progressive distillation of all step lengths at once.
    """

    differentiates_network = False
    starts_at_velocity = False

    def sides(
        self, u: AverageVelocity, v: Callable[[State, Tensor], State], pair: Pair, space: Space
    ) -> tuple[State, State]:
        x, t, s, _ = pair
        middle, manifold = (t + s) / 2, as_manifold(space)
        with torch.no_grad():
            x_middle = move(space, x, middle - t, u(x, t, middle))
            x_s = move(space, x_middle, s - middle, u(x_middle, middle, s))
        return u(x, t, s), detach(times(1 / positive(s - t), manifold.log(x, x_s)))


@dataclass(frozen=True)
class Consistency(FlowMapLoss):
    """Consistency: a step from t ends where a step to the same time ends from a later state of the trajectory.

    The later state is an Euler step of the teacher (distillation), or follows the path between the same noise and data
    (training). Usually with ends at s = 1. Source: Song et al. 2023, "Consistency models", arXiv 2303.01469.
    """

    steps: int = 64
    """Number of steps in [0, 1] that divide a trajectory; the condition is exact in the limit of many."""
    differentiates_network = False
    starts_at_velocity = False

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, ge=2)

    def sides(
        self, u: AverageVelocity, v: Callable[[State, Tensor], State], pair: Pair, space: Space
    ) -> tuple[State, State]:
        x, t, s, _ = pair
        later = torch.minimum(t + 1 / self.steps, s)
        with torch.no_grad():
            x_later = move(space, x, later - t, pair.velocity())
            x_s = move(space, x_later, s - later, u(x_later, later, s))
        return u(x, t, s), detach(times(1 / positive(s - t), as_manifold(space).log(x, x_s)))


def positive(lengths: Tensor) -> Tensor:
    """Return the lengths of steps, and 1 for empty steps, whose target is their velocity."""
    return torch.where(lengths > 0, lengths, torch.ones_like(lengths))
