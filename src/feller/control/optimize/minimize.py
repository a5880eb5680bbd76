"""Minimising many functions at once, each at its own pace: what an example does depends on no other."""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.errors import UsageError

BatchFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x [m, d], numbers of these examples [m], which may come more than once) -> values [m], gradients [m, d].

Gradients are zeros for a minimiser that asks for none.
"""


class MinimizerState(NamedTuple):
    """Where all examples are; values never rise."""

    x: Float[Tensor, "b d"]
    value: Float[Tensor, " b"]
    gradient: Float[Tensor, "b d"]
    nfe: Int64[Tensor, " b"]
    """How often each was evaluated."""
    active: Bool[Tensor, " b"]
    """Which of them may still fall; the others stay as they are."""


class Minimizer(abc.ABC):
    """Implement one method to add one."""

    needs_gradients: ClassVar[bool] = True
    """Whether it asks the function for them."""
    steps: int
    """At most."""

    @abc.abstractmethod
    def run(self, function: BatchFunction, x: Float[Tensor, "b d"]) -> Iterator[MinimizerState]:
        """Yield the start, and where examples are after each step, until none of them moves.

        The caller stops an example by setting its `going` to False in what was yielded.
        """


def initial_state(function: BatchFunction, x: Tensor) -> MinimizerState:
    """Evaluate the start."""
    value, gradient = function(x, torch.arange(len(x), device=x.device))
    going = torch.isfinite(value) & torch.isfinite(gradient).all(1)
    calls = torch.ones(len(x), dtype=torch.long, device=x.device)
    return MinimizerState(x.clone(), value.clone(), gradient.clone(), calls, going)


class AdamMoments:
    """Running means of gradients and of their squares, for each example, and the steps that Adam makes of them.

    Source: Kingma and Ba 2015, "Adam: a method for stochastic optimization", arXiv 1412.6980.
    """

    def __init__(self, like: Float[Tensor, " b *d"], betas: tuple[float, float]) -> None:
        self.betas, self.steps = betas, 0
        self.means = [torch.zeros_like(like) for _ in betas]

    def step(self, slope: Float[Tensor, " m *d"], rows: Int64[Tensor, " m"]) -> Float[Tensor, " m *d"]:
        """Return the way uphill, about 1 in each number; all `rows` were in every step before."""
        self.steps += 1
        unbiased = []
        for mean, power, beta in zip(self.means, (slope, slope.square()), self.betas, strict=True):
            mean[rows] = beta * mean[rows] + (1 - beta) * power
            unbiased.append(mean[rows] / (1 - beta**self.steps))
        first, second = unbiased
        return first / (second.sqrt() + 1e-12)


@dataclass(frozen=True)
class Adam(Minimizer):
    """Steps of a length of one's own, however steep; keeps the best point of each example."""

    lr: float = 0.05
    """Length of a step in each number."""
    steps: int = 100  # pyrefly: ignore
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.steps < 1 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError("a positive rate, 1 step or more and betas in [0, 1)", self)

    def run(self, function: BatchFunction, x: Float[Tensor, "b d"]) -> Iterator[MinimizerState]:
        best = initial_state(function, x)
        yield best
        here, slope, moments = best.x.clone(), best.gradient.clone(), AdamMoments(x, self.betas)
        for _ in range(self.steps):
            rows = best.active.nonzero()[:, 0]
            if not len(rows):
                return
            here[rows] -= self.lr * moments.step(slope[rows], rows)
            value, gradient = function(here[rows], rows)
            best.nfe[rows] += 1
            finite = torch.isfinite(value) & torch.isfinite(gradient).all(1)
            slope[rows] = torch.where(finite[:, None], gradient, torch.zeros_like(gradient))
            better = finite & (value < best.value[rows])
            for stored, new in ((best.x, here[rows]), (best.gradient, gradient), (best.value, value)):
                stored[rows[better]] = new[better]
            yield best
