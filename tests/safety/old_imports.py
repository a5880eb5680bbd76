"""A recipe of a user's own that imports from where modules lay in version 0.1."""

from dataclasses import dataclass

import torch
from feller.objective import Matching
from feller.processes import Characteristics
from feller.recipes import Recipe
from feller.train.optimiser import Training
from feller.tree import tree_map

from feller.networks.mlp import MLP
from feller.paths import Path
from feller.sampling import Sampling
from feller.spaces import Euclidean


@dataclass(frozen=True)
class OldPath(Path):
    """Straight lines, whose velocity is the target."""

    def sample(self, x_0, x_1, t, rng=None):
        """Interpolate."""
        return tree_map(lambda a, b: torch.lerp(a, b, t[:, None]), x_0, x_1)

    def target(self, x_t, x_0, x_1, t):
        """Return the velocity of the line."""
        return x_1 - x_0

    def characteristics(self, prediction, x_t, t):
        """Follow the predicted velocity."""
        return Characteristics(velocity=prediction)


def old(data, size):
    """Return the recipe."""
    shape = tuple(data.values.shape[1:])
    return Recipe(
        architecture=MLP(width=8, depth=1),
        objective=Matching(OldPath(), Euclidean(shape)),
        train=Training(batch=16, steps=4, warmup=1),
        sampling=Sampling("midpoint", 4),
    )
