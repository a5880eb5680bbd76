"""Regressors and classifiers, which combine pooled features of a trunk network and a prediction head."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.blocks.conditioning import zero_init
from feller.networks.network_config import NetworkConfig, seeded_init

TYPICAL_SITES = 16.0
"""Typical number of sites, by which sums over sites are divided to scale them."""


@dataclass(frozen=True)
class Regressor(NetworkConfig):
    """Regressor or classifier on the features of another network; outputs, [b, out_dim], are zero at initialisation."""

    trunk: NetworkConfig
    """Configuration of the network that computes the features. Its method `features(x_t, t, cond)` returns them, [b,
    feature_dim]. Its `output_layers()` are not used, and are frozen."""
    out_dim: int
    """Number of regression outputs, or of class logits."""

    def __post_init__(self) -> None:
        check_number("out_dim", self.out_dim, ge=1)

    def build(self, shape: State, conditions: ConditionTypes, rng: Rng) -> "RegressorNetwork":
        trunk: Any = self.trunk.build(shape, conditions, rng.fold_in("trunk"))
        if not hasattr(trunk, "features"):
            raise UsageError(
                f"{type(self.trunk).__name__} computes no feature vector of an example, from which to predict",
                remedy="Choose another network",
            )
        with seeded_init(rng):
            return RegressorNetwork(trunk, self.out_dim)


class RegressorNetwork(nn.Module):
    """Regressor or classifier on the features of a trunk network, configured by `Regressor`."""

    def __init__(self, trunk: Any, out_dim: int) -> None:
        super().__init__()
        self.trunk, self.null_values = trunk, trunk.null_values
        for head in trunk.output_layers():
            head.requires_grad_(False)  # unused, so without gradients
        self.linear_head = zero_init(nn.Linear(trunk.feature_dim, out_dim))
        self.fc1 = nn.Linear(trunk.feature_dim, trunk.feature_dim)
        self.fc2 = zero_init(nn.Linear(trunk.feature_dim, out_dim))

    def forward(self, x_t: State, t: State, cond: Cond) -> Float[Tensor, "b answers"]:
        """Return the sum of two heads: a linear head, for targets that are sums over sites, and an MLP head."""
        features = self.trunk.features(x_t, t, cond)
        return self.linear_head(features) + self.fc2(F.silu(self.fc1(features)))


def pool_sites(h: Float[Tensor, "b n width"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b features"]:
    """Return the sum over valid sites of the features h, divided by `TYPICAL_SITES`, and their mean, concatenated.

    The sum is for extensive targets, and the mean for intensive targets.
    """
    total = (h * valid[:, :, None]).sum(1)
    return torch.cat([total / TYPICAL_SITES, total / valid.sum(1, keepdim=True).clamp(min=1)], 1)
