"""Base class of state spaces."""

import abc
from numbers import Integral

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State
from feller.core.rng import RandomStream

Points = Float[Tensor, " b *d"]
"""Real values per example, such as states and velocities, [b, ...]."""


def _is_size(size: object) -> bool:
    return isinstance(size, Integral) and not isinstance(size, bool) and int(size) >= 0


class Space(abc.ABC):
    """Space of a state or of one of its leaves (components); subclasses implement `sample_base` and `step`."""

    def __post_init__(self) -> None:
        shape = getattr(self, "shape", ())
        if not isinstance(shape, tuple) or not all(_is_size(size) for size in shape):
            expected = f"the shape of one example in {type(self).__name__}, such as (3,)"
            raise UsageError(expected, repr(shape), argument="shape")

    @property
    def is_flat(self) -> bool:
        """True if tangent vectors at different points can be added, and noise can be added to states."""
        return True

    @abc.abstractmethod
    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> State:
        """Sample n states from the base distribution, the distribution of the process at t = 0."""

    @abc.abstractmethod
    def step(self, x: Tensor, v: Tensor) -> Tensor:
        """Move from x by the tangent vector v: x + v on flat spaces."""

    def integrate_step(self, x: Tensor, v: Tensor, h: float) -> Tensor:
        """Move from x with velocity v for a time step h."""
        return self.step(x, h * v)

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Map a velocity at y to the tangent space at x; the identity on flat spaces."""
        return v
