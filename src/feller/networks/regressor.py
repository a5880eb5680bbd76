"""Networks that tell numbers about an example, or a class of it: features of the whole, and a head that reads them."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.architecture import Architecture, weights_from
from feller.networks.blocks.conditioning import zero

TYPICAL = 16.0
"""Number of sites by which sums over them are divided."""


@dataclass(frozen=True)
class Estimator(Architecture):
    """Another kind's network up to its last features, and a small one that answers from these, [b, answers].

    A new network answers with zero.
    """

    trunk: Architecture
    """Kind whose network has `features(x_t, t, given)`, [b, `seen`], and `heads()`, the layers that nothing but its own
    answers needs: these are not asked for."""
    answers: int
    """Numbers, or logits of classes."""

    def __post_init__(self) -> None:
        check_number("answers", self.answers, ge=1)

    def build(self, shape: State, conditions: dict[str, int], draws: Rng) -> "EstimatorNetwork":
        """Make a network with new weights."""
        trunk: Any = self.trunk.build(shape, conditions, draws.fold_in("trunk"))
        if not hasattr(trunk, "features"):
            raise UsageError(
                f"{type(self.trunk).__name__} has no features of whole examples", remedy="Choose another trunk"
            )
        with weights_from(draws):
            return EstimatorNetwork(trunk, self.answers)


class EstimatorNetwork(nn.Module):
    """The network of `Estimator`."""

    def __init__(self, trunk: Any, answers: int) -> None:
        super().__init__()
        self.trunk, self.nulls = trunk, trunk.nulls
        for head in trunk.heads():
            head.requires_grad_(False)  # there is nothing to learn for them
        self.straight = zero(nn.Linear(trunk.seen, answers))
        self.first = nn.Linear(trunk.seen, trunk.seen)
        self.second = zero(nn.Linear(trunk.seen, answers))

    def forward(self, x_t: State, t: State, given: Cond) -> Float[Tensor, "b answers"]:
        """Answer: what adds up over the sites can go straight."""
        seen = self.trunk.features(x_t, t, given)
        return self.straight(seen) + self.second(F.silu(self.first(seen)))


def pooled(h: Float[Tensor, "b n width"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b features"]:
    """Return sum and mean of the features of sites: some numbers grow with an example, some do not."""
    whole = (h * valid[:, :, None]).sum(1)
    return torch.cat([whole / TYPICAL, whole / valid.sum(1, keepdim=True).clamp(min=1)], 1)
