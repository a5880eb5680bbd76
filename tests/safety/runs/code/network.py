"""A network of a user's own, as `feller import` takes it."""

import torch
from torch import nn


class Net(nn.Module):
    """A linear velocity, the same at all times but for a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[0.5, -0.25], [0.25, 0.125]]))
            self.linear.bias.copy_(torch.tensor([1.0, -2.0]))

    def forward(self, x, t):
        """Return the velocity."""
        return self.linear(x) * (1 + t[:, None])


def net():
    """Return the network."""
    return Net()
