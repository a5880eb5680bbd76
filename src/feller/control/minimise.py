"""Minimising many functions at once, each at its own pace: what an example does depends on no other."""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.errors import UsageError

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x [m, d], numbers of these examples [m]) -> values [m], gradients [m, d]."""


class Iterate(NamedTuple):
    """Where all examples are; values never rise."""

    x: Float[Tensor, "b d"]
    value: Float[Tensor, " b"]
    gradient: Float[Tensor, "b d"]
    calls: Int64[Tensor, " b"]
    """How often each was evaluated, with its gradient."""
    going: Bool[Tensor, " b"]
    """Which of them may still fall; the others stay as they are."""


class Minimiser(abc.ABC):
    """Implement one method to add one."""

    @abc.abstractmethod
    def run(self, function: Function, x: Float[Tensor, "b d"]) -> Iterator[Iterate]:
        """Yield the start, and where examples are after each step, until none of them moves.

        The caller stops an example by setting its `going` to False in what was yielded.
        """


def begin(function: Function, x: Tensor) -> Iterate:
    """Evaluate the start."""
    value, gradient = function(x, torch.arange(len(x), device=x.device))
    going = torch.isfinite(value) & torch.isfinite(gradient).all(1)
    calls = torch.ones(len(x), dtype=torch.long, device=x.device)
    return Iterate(x.clone(), value.clone(), gradient.clone(), calls, going)


@dataclass(frozen=True)
class Adam(Minimiser):
    """Steps of a length of one's own, however steep; keeps the best point of each example.

    Source: Kingma and Ba 2015, "Adam: a method for stochastic optimization", arXiv 1412.6980.
    """

    lr: float = 0.05
    """Length of a step in each number."""
    steps: int = 100
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.steps < 1 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"expected a positive rate, 1 step or more and betas in [0, 1), got {self}")

    def run(self, function: Function, x: Float[Tensor, "b d"]) -> Iterator[Iterate]:
        """Yield the best points so far."""
        best = begin(function, x)
        yield best
        here, slope = best.x.clone(), best.gradient.clone()
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        for step in range(1, self.steps + 1):
            rows = best.going.nonzero()[:, 0]
            if not len(rows):
                return
            for memory, power, beta in (
                (first, slope[rows], self.betas[0]),
                (second, slope[rows].square(), self.betas[1]),
            ):
                memory[rows] = beta * memory[rows] + (1 - beta) * power
            mean, size = first[rows] / (1 - self.betas[0] ** step), second[rows] / (1 - self.betas[1] ** step)
            here[rows] -= self.lr * mean / (size.sqrt() + 1e-12)
            value, gradient = function(here[rows], rows)
            best.calls[rows] += 1
            finite = torch.isfinite(value) & torch.isfinite(gradient).all(1)
            slope[rows] = torch.where(finite[:, None], gradient, torch.zeros_like(gradient))
            better = finite & (value < best.value[rows])
            for kept, new in ((best.x, here[rows]), (best.gradient, gradient), (best.value, value)):
                kept[rows[better]] = new[better]
            yield best
