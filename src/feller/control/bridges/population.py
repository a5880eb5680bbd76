"""Population of a bridge problem: samples with optional weights, from which members are drawn."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.rng import Rng, categorical


@dataclass(frozen=True, eq=False)
class Population:
    """Samples of a population, optionally weighted."""

    members: Float[Tensor, " n *d"]
    weights: Float[Tensor, " n"] | None = None
    """Weight of each sample (any scale); None for uniform weights."""

    def __call__(self, number: int, rng: Rng) -> Float[Tensor, " number *d"]:
        """Sample members; without weights, the numbers of times that members are drawn differ by at most one."""
        return self.members[self.sample_indices(number, rng)]

    def sample_indices(self, number: int, rng: Rng) -> Int[Tensor, " number"]:
        """Sample indices of members in proportion to the weights.

        Without weights, the members are drawn equally often (numbers of draws differ by at most one), in random order.
        """
        n, device = len(self.members), self.members.device
        if self.weights is not None:
            u = rng.stream("members").uniform((number,), torch.float64)
            return categorical(self.weights.double().cpu(), u).to(device)
        generator = rng.stream("members").shared_generator()
        permutations = [torch.randperm(n, generator=generator) for _ in range(-(-number // n))]
        return torch.cat(permutations)[:number].to(device)
