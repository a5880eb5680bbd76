"""What every space offers."""

import abc

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State
from feller.core.rng import RandomStream

Points = Float[Tensor, " b *d"]
"""Real numbers of each example, such as states and velocities, [b, ...]."""


class Space(abc.ABC):
    """Where a state, or a leaf of it, lives. Implement two methods to add one."""

    def __post_init__(self) -> None:
        shape = getattr(self, "shape", ())
        if not isinstance(shape, tuple):
            expected = f"the shape of an example of {type(self).__name__}, such as (3,)"
            raise UsageError(expected, repr(shape), argument="shape")

    @property
    def is_flat(self) -> bool:
        """Whether vectors at one point can be added to those at another, and noise to a state."""
        return True

    @abc.abstractmethod
    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> State:
        """Draw n states from the source law, the process's law at t = 0."""

    @abc.abstractmethod
    def step(self, x: Tensor, v: Tensor) -> Tensor:
        """Move from x by the tangent vector v: x + v on flat spaces."""

    def integrate_step(self, x: Tensor, v: Tensor, h: float) -> Tensor:
        """Follow a velocity for the time h."""
        return self.step(x, h * v)

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Bring a velocity at y to x, so that it can be added to velocities there; on flat spaces it is the same."""
        return v
