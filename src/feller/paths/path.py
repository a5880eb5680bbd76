"""Base class of probability paths, and checks of times and spaces."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from feller.core.errors import UsageError, found_instead
from feller.core.pytree import STEP_END, Cond, State, broadcast_time, is_concrete
from feller.core.rng import RandomStream
from feller.networks.unwrapping import takes_step_end
from feller.paths.processes import Process
from feller.paths.schedules import Schedule
from feller.spaces import Euclidean, Manifold, Space, Tokens

Places = Int[Tensor, " b *d"]
"""Token ids of each example, [b, ...]."""
Times = Float[Tensor, " b"]
"""One time per example, [b]."""
Network = Callable[[State, State, Cond], State]
"""Network function: (x_t, t, cond) -> prediction."""


def check_times(t: Any, x: Tensor) -> None:
    """Check that t holds one time in [0, 1] for each example of the state x; values are checked on CPU only."""
    if not isinstance(t, Tensor) or t.shape != x.shape[:1]:  # [b, 1] would broadcast against [b, d] silently
        found = f"a tensor {list(t.shape)}" if isinstance(t, Tensor) else f"{t!r:.40}"
        remedy = "Use t.expand(len(x)) for a single time, t[:, 0] for a column"
        raise UsageError(argument="t", expected=f"one time per example, [{len(x)}]", found=found, remedy=remedy)
    low, high = (float(value) for value in t.detach().aminmax()) if len(t) and is_concrete(t) else (0.0, 0.0)
    if not 0 <= low <= high <= 1:
        found, remedy = f"[{low:g}, {high:g}]", "Divide step indices by the number of steps"
        raise UsageError(argument="t", expected="times in [0, 1]", found=found, remedy=remedy)


def require_rng(rng: RandomStream | None) -> RandomStream:
    """Return `rng`, which stochastic paths require; UsageError if `rng` is not a random stream."""
    if not isinstance(rng, RandomStream):
        remedy = "Pass rng=feller.Rng(0).stream('path')"
        raise UsageError(argument="rng", expected="a random stream", found=f"{rng!r:.40}", remedy=remedy)
    return rng


def leads_elsewhere(path: "Path", space: Space, name: str, found: str) -> UsageError:
    """Return the error for a path that does not fit a space."""
    space_name = type(space).__name__
    if isinstance(space, Tokens):
        remedy = "Use feller.Mixture()"
    elif isinstance(space, Manifold) and not isinstance(space, Euclidean):
        remedy = f"Use feller.Geodesic(space) with this {space_name}"
    else:
        remedy = "Use feller.Affine()"
    return UsageError(
        argument=name, expected=f"a path on {space_name}", found=f"{type(path).__name__}, {found}", remedy=remedy
    )


class Path(abc.ABC):
    """Probability path from x_0 ~ source to x_1 ~ data; implement `sample`, `target` and `characteristics`."""

    @property
    def has_jumps(self) -> bool:
        """True if the process has jumps, which a velocity alone does not describe."""
        return False

    @property
    def is_discrete(self) -> bool:
        """True if states are tokens and the network predicts logits."""
        return False

    answers_like_state: ClassVar[bool] = False
    """True if the network predicts real values in the shape of the state."""

    def check_space(self, space: Space, name: str = "path") -> None:
        """Raise a UsageError if the path does not fit a space; token paths do not fit manifolds.

        `name` is the name of the path in the error, such as the argument.
        """
        if self.is_discrete and isinstance(space, Manifold):
            raise leads_elsewhere(self, space, name, "a path of tokens")

    @property
    def is_flow(self) -> bool:
        """True if a velocity describes the whole process, without jumps or noise."""
        return not self.has_jumps and getattr(self, "noise", None) is None

    @property
    def affine_schedule(self) -> Schedule | None:
        """Schedule of an affine path x_t = alpha_t x_1 + sigma_t x_0; None for other paths."""
        return None

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """Names of the leaves (components) of the state that have paths of their own; empty if all share one path."""
        return ()

    def leaf_path(self, name: str) -> "Path":
        """Return the path of the leaf (component) `name` of the state."""
        return self

    @abc.abstractmethod
    def sample(self, x_0: State, x_1: State, t: State, rng: RandomStream | None = None) -> State:
        """Sample x_t given both endpoints, at times [b]; only stochastic paths require `rng`."""

    @abc.abstractmethod
    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return the training target of the network at (x_t, t)."""

    def sample_with_target(
        self, x_0: State, x_1: State, t: State, rng: RandomStream | None = None
    ) -> tuple[State, State]:
        """Return x_t and its training target; override this to share computations."""
        x_t = self.sample(x_0, x_1, t, rng)
        return x_t, self.target(x_t, x_0, x_1, t)

    @abc.abstractmethod
    def characteristics(self, prediction: State, x_t: State, t: State) -> State:
        """Return the generator of the process at (x_t, t), as `Characteristics`, from the network's prediction.

        If the prediction is exact, the process has the marginals of the path.
        """

    def complete_prediction(self, prediction: State, x_t: State, t: State) -> State:
        """Return the prediction for the loss: the network's output, completed with information from the state."""
        return prediction

    def initial_state(self, x_0: State) -> State:
        """Convert a source sample to the state at t = 0; the two differ if the schedule scales the source."""
        return x_0

    def process(self, network: Network, cond: Cond) -> Process:
        """Return the Markov process that follows the predictions of a network given the conditions `cond`.

        If the network takes the end of a step, the process does too, see `Process`.

        Raises:
            UsageError: If `cond` is not a dict.
        """
        if not isinstance(cond, Mapping):
            remedy = 'Pass {"label": labels}, or {} for none'
            raise UsageError(
                argument="given", expected="a dict of conditions", found=found_instead(cond), remedy=remedy
            )

        def process(x_t: State, t: State, *end: State) -> State:
            t = broadcast_time(t, x_t)
            inputs = {**cond, STEP_END: end[0]} if end else cond
            return self.characteristics(network(x_t, t, inputs), x_t, t)

        process.path = self  # pyrefly: ignore[missing-attribute] - read by `check_schedule` of solvers
        process.takes_end = takes_step_end(network)  # pyrefly: ignore[missing-attribute]
        return process
