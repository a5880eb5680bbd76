"""Networks, losses and rows for tests of private gradients."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.rng import Rng
from feller.privacy.dp_sgd.per_example_clipping import ClippedSum

F64 = torch.float64


def shaken(network: nn.Module, seed: int = 1, size: float = 0.2) -> nn.Module:
    """Return the network in float64 with no weight left at zero."""
    draw, network = Rng(seed).stream("weights"), network.double()
    with torch.no_grad():
        for weight in network.parameters():
            weight += size * draw.normal(weight.shape, F64) if weight.ndim else size
    return network


def answer_loss(network: nn.Module, example: dict[str, Tensor]) -> Tensor:
    answer = network(example["x"])
    return (answer * answer.cos()).flatten(1).sum(1)


def normal(*shape: int, seed: int = 2) -> Tensor:
    return Rng(seed).stream("x").normal(shape, F64)


def symbols(high: int, *shape: int, seed: int = 3) -> Tensor:
    return Rng(seed).stream("x").randint(high, shape)


def tell_apart(found: ClippedSum, expected: ClippedSum) -> float:
    """Return the largest relative difference of a norm, or of a sum by its own largest entry."""
    worst = ((found.norms - expected.norms).abs() / expected.norms).max().item()
    for name, sums in expected.sums.items():
        if name in found.sums or sums.abs().max() > 0:
            apart = (found.sums[name] - sums).abs().max() / sums.abs().max().clamp(min=1e-30)
            worst = max(worst, apart.item())
    return worst


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layer(x)


class Placed(nn.Module):
    """Tokens and places, whose numbers are expanded; the activations work in place; one layer serves twice."""

    def __init__(self, expanded: bool = True) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(7, 6), nn.Embedding(5, 6)
        self.norm, self.first, self.leave = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 4)
        self.expanded = expanded

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(5)
        h = self.tokens(x) + self.places(places.expand(len(x), -1) if self.expanded else places)
        with torch.no_grad():
            shift = self.first(h).mean((1, 2), keepdim=True)
        h = F.relu_(self.first(self.norm(h)))
        h = F.silu(self.first(h + shift), inplace=True)
        return self.leave(h).flatten(1)


class Tied(nn.Module):
    """A table that also answers, beside a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inside, self.leave = nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 7)
        self.leave.weight = self.enter.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.silu(self.inside(self.enter(x))))
