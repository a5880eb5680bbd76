"""What every path offers."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError, found_instead
from feller.core.pytree import Cond, State, broadcast_time, is_concrete
from feller.core.rng import RandomStream
from feller.paths.processes import Process
from feller.paths.schedules import Schedule
from feller.spaces import Euclidean, Manifold, Space, Tokens

Places = Int[Tensor, " b *d"]
"""Symbols of each example, [b, ...]."""
Times = Float[Tensor, " b"]
"""A time for each example, [b]."""
Network = Callable[[State, State, Cond], State]
"""(x_t, t, given) -> prediction."""


def check_times(t: Any, x: Tensor) -> None:
    """Refuse times that are not one for each example, in [0, 1]; values are looked at on the CPU alone."""
    if not isinstance(t, Tensor) or t.shape != x.shape[:1]:
        found = f"a tensor {list(t.shape)}" if isinstance(t, Tensor) else f"{t!r:.40}"
        remedy = "Write t.expand(len(x)) for one time, t[:, 0] for a column"
        raise UsageError(argument="t", expected=f"one time for each example, [{len(x)}]", found=found, remedy=remedy)
    low, high = (float(end) for end in t.detach().aminmax()) if len(t) and is_concrete(t) else (0.0, 0.0)
    if not 0 <= low <= high <= 1:
        found, remedy = f"[{low:g}, {high:g}]", "Divide steps by their number"
        raise UsageError(argument="t", expected="times in [0, 1]", found=found, remedy=remedy)


def require_rng(rng: RandomStream | None) -> RandomStream:
    """Return a source of random numbers.

    Raises:
        UsageError: If there is none, where a path draws its states.
    """
    if not isinstance(rng, RandomStream):
        remedy = "Write rng=feller.Rng(0).stream('path')"
        raise UsageError(argument="rng", expected="a source of random numbers", found=f"{rng!r:.40}", remedy=remedy)
    return rng


def leads_elsewhere(path: "Path", space: Space, name: str, found: str) -> UsageError:
    """Return what to raise where a path does not lead through a space, of which `found` says why."""
    kind = type(space).__name__
    if isinstance(space, Tokens):
        remedy = "Write feller.Mixture()"
    elif isinstance(space, Manifold) and not isinstance(space, Euclidean):
        remedy = f"Write feller.Geodesic(space) with that {kind}"
    else:
        remedy = "Write feller.Affine()"
    return UsageError(
        argument=name,
        expected=f"a path through {kind}",
        found=f"{type(path).__name__}, {found}",
        remedy=remedy,
    )


class Path(abc.ABC):
    """Interpolates x_0 ~ source and x_1 ~ data. Implement three methods to add one."""

    @property
    def has_jumps(self) -> bool:
        """Whether the process jumps, so that no velocity tells all of it."""
        return False

    @property
    def is_discrete(self) -> bool:
        """Whether states are tokens, and the network answers with logits."""
        return False

    @property
    def answers_like_state(self) -> bool:
        """Whether the network answers with real numbers in the shape of the state, whatever is predicted."""
        return False

    def check_space(self, space: Space, name: str = "path") -> None:
        """Refuse a space that the path does not lead through: states would leave it, or mean nothing.

        A path of your own is taken at its word, but for symbols, which are no real numbers.
        """
        if self.is_discrete and isinstance(space, Manifold):
            raise leads_elsewhere(self, space, name, "a path of symbols")

    @property
    def is_flow(self) -> bool:
        """Whether a velocity tells all of the process: it has no jumps and no noise."""
        return not self.has_jumps and getattr(self, "noise", None) is None

    @property
    def affine_schedule(self) -> Schedule | None:
        """Schedule of x_t = alpha_t x_1 + sigma_t x_0, where the states are such real vectors; else None."""
        return None

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """Names of leaves that have a path each; none where one path is that of all."""
        return ()

    def leaf_path(self, name: str) -> "Path":
        """Return the path of a leaf."""
        return self

    @abc.abstractmethod
    def sample(self, x_0: State, x_1: State, t: State, rng: RandomStream | None = None) -> State:
        """Draw X_t given both ends, at times [b]; a path without randomness of its own needs no draw."""

    @abc.abstractmethod
    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return what the network should answer at (x_t, t)."""

    def sample_with_target(
        self, x_0: State, x_1: State, t: State, rng: RandomStream | None = None
    ) -> tuple[State, State]:
        """Return both; a kind where they share their work overrides this."""
        x_t = self.sample(x_0, x_1, t, rng)
        return x_t, self.target(x_t, x_0, x_1, t)

    @abc.abstractmethod
    def characteristics(self, prediction: State, x_t: State, t: State) -> State:
        """Return the process with the marginals of the path, where the prediction is exact."""

    def complete_prediction(self, prediction: State, x_t: State, t: State) -> State:
        """Return what the loss compares with the target: the network's answer, and what the state itself adds."""
        return prediction

    def initial_state(self, x_0: State) -> State:
        """Return the state at t = 0 from a draw of the source; they differ where a schedule scales the source."""
        return x_0

    def process(self, network: Network, cond: Cond) -> Process:
        """Let a network drive the path.

        Raises:
            UsageError: If what is given is no dict.
        """
        if not isinstance(cond, Mapping):
            remedy = 'Write {"label": labels}, or {} for none'
            raise UsageError(
                argument="given", expected="a dict of conditions", found=found_instead(cond), remedy=remedy
            )

        def process(x_t: State, t: State) -> State:
            t = broadcast_time(t, x_t)
            return self.characteristics(network(x_t, t, cond), x_t, t)

        return process
