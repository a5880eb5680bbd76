"""Batched minimisers: each example is optimised independently of the others."""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.errors import UsageError

BatchFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function (x [m, d], indices of these examples [m], possibly repeated) -> values [m], gradients [m, d].

Gradients are zeros for a gradient-free minimiser.
"""


class MinimizerState(NamedTuple):
    """State of a batched minimisation: for each example the best point x so far, its function value and gradient."""

    x: Float[Tensor, "b d"]
    value: Float[Tensor, " b"]
    gradient: Float[Tensor, "b d"]
    nfe: Int64[Tensor, " b"]
    """Number of function evaluations per example."""
    active: Bool[Tensor, " b"]
    """True for examples still being optimised; the others stay fixed."""


class Minimizer(abc.ABC):
    """Base class of minimisers. Subclasses implement `run`."""

    needs_gradients: ClassVar[bool] = True
    """True if the minimiser uses gradients."""
    steps: int
    """Maximum number of steps."""

    @abc.abstractmethod
    def run(self, function: BatchFunction, x: Float[Tensor, "b d"]) -> Iterator[MinimizerState]:
        """Yield the state at the start and after each step, until no example is active.

        The caller stops an example by setting its entry of `active` to False in the yielded state.
        """


def initial_state(function: BatchFunction, x: Tensor) -> MinimizerState:
    """Evaluate the function at the start points `x` [b, d], and return the initial state."""
    value, gradient = function(x, torch.arange(len(x), device=x.device))
    is_active = torch.isfinite(value) & torch.isfinite(gradient).all(1)
    nfe = torch.ones(len(x), dtype=torch.long, device=x.device)
    return MinimizerState(x.clone(), value.clone(), gradient.clone(), nfe, is_active)


class AdamMoments:
    """Moving averages of Adam (of gradients and squared gradients) per example, and the steps computed from them.

    Source: Kingma and Ba 2015, "Adam: a method for stochastic optimization", arXiv 1412.6980.
    """

    def __init__(self, like: Float[Tensor, " b *d"], betas: tuple[float, float]) -> None:
        self.betas, self.steps = betas, 0
        self.means = [torch.zeros_like(like) for _ in betas]

    def step(self, slope: Float[Tensor, " m *d"], rows: Int64[Tensor, " m"]) -> Float[Tensor, " m *d"]:
        """Return the bias-corrected ascent direction for the gradient `slope`; its entries have size about 1.

        The examples with indices `rows` must have taken part in all earlier steps.
        """
        self.steps += 1
        unbiased = []
        for mean, moment, beta in zip(self.means, (slope, slope.square()), self.betas, strict=True):
            mean[rows] = beta * mean[rows] + (1 - beta) * moment
            unbiased.append(mean[rows] / (1 - beta**self.steps))
        first, second = unbiased
        return first / (second.sqrt() + 1e-12)


@dataclass(frozen=True)
class Adam(Minimizer):
    """Adam minimiser; the result of each example is the best point it visited."""

    lr: float = 0.05
    """Learning rate: step size per entry."""
    steps: int = 100  # pyrefly: ignore
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.steps < 1 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError("a positive learning rate, at least 1 step and betas in [0, 1)", self)

    def run(self, function: BatchFunction, x: Float[Tensor, "b d"]) -> Iterator[MinimizerState]:
        best = initial_state(function, x)
        yield best
        current, current_gradient, moments = best.x.clone(), best.gradient.clone(), AdamMoments(x, self.betas)
        for _ in range(self.steps):
            rows = best.active.nonzero()[:, 0]
            if not len(rows):
                return
            current[rows] -= self.lr * moments.step(current_gradient[rows], rows)
            value, gradient = function(current[rows], rows)
            best.nfe[rows] += 1
            is_finite = torch.isfinite(value) & torch.isfinite(gradient).all(1)
            current_gradient[rows] = torch.where(is_finite[:, None], gradient, torch.zeros_like(gradient))
            is_better = is_finite & (value < best.value[rows])
            for stored, new in ((best.x, current[rows]), (best.gradient, gradient), (best.value, value)):
                stored[rows[is_better]] = new[is_better]
            yield best
