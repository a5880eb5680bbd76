"""A population that is known by some of its members."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feller.core.rng import Rng, categorical


@dataclass(frozen=True, eq=False)
class Population:
    """Members of a population, of which some may stand for more than others."""

    members: Float[Tensor, " n *d"]
    weights: Float[Tensor, " n"] | None = None
    """How much each stands for; None for all alike."""

    def __call__(self, number: int, rng: Rng) -> Float[Tensor, " number *d"]:
        """Draw members: without weights each as often as any other, to one."""
        return self.members[self.sample_indices(number, rng)]

    def sample_indices(self, number: int, rng: Rng) -> Int[Tensor, " number"]:
        """Draw the numbers of members."""
        n, device = len(self.members), self.members.device
        if self.weights is not None:
            u = rng.stream("members").uniform((number,), torch.float64)
            return categorical(self.weights.double().cpu(), u).to(device)
        order = rng.stream("members").shared_generator()
        turns = [torch.randperm(n, generator=order) for _ in range(-(-number // n))]
        return torch.cat(turns)[:number].to(device)
