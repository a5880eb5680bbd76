"""The small network of the cases, and what each package wants around it."""

from itertools import pairwise

import torch
from flow_matching.utils import ModelWrapper
from torch import Tensor, nn


class Perceptron(nn.Module):
    """Layers of SiLU over state and time, for a time of shape [b] or []."""

    def __init__(self, dim: int = 2, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        sizes = [dim + 1, *[width] * depth]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor | float, given: object = None) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1).expand(len(x), 1)
        return self.layers(torch.cat([x, t], -1))


class Minus(nn.Module):
    """u(x) = -x: nothing but the solver's own work."""

    def forward(self, x: Tensor, t: Tensor | float, given: object = None) -> Tensor:
        return -x


class ForFlowMatching(ModelWrapper):
    def forward(self, x: Tensor, t: Tensor, **_: object) -> Tensor:
        return self.model(x, t)


class ForAzula(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, **_: object) -> Tensor:
        return self.network(x, t)
