"""A perfect network of a normal law with a change of velocity that is learned, which leaves every law normal."""

import torch
from torch import Tensor

from tests.oracle import F64, Normal


class Shifted(torch.nn.Module):
    """The velocity of N(1, 0.25), plus a number for each of some times, plus a multiple of the state."""

    def __init__(self, *change: float, gain: float = 0.0, variance: float = 0.25) -> None:
        super().__init__()
        self.nulls: dict[str, int] = {}
        self.change = torch.nn.Parameter(torch.tensor(change, dtype=F64))
        self.gain = torch.nn.Parameter(torch.tensor(gain, dtype=F64))
        self.data = Normal(s=variance**0.5)

    def forward(self, x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        """Return the velocity."""
        number = (t * len(self.change)).round().long().clamp(max=len(self.change) - 1)
        return self.data.flow(x, t).velocity + self.change[number][:, None] + self.gain * x

    def gradient(self) -> Tensor:
        """Return that of all numbers, the gain last."""
        return torch.cat([self.change.grad, self.gain.grad[None]])


def rate(data: Normal, t: float) -> float:
    """Return the slope of the velocity in the state."""
    return (t * data.s**2 - (1 - t)) / data.moments(t)[1]
