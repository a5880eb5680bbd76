"""Recipes of points in Euclidean space and on manifolds."""

import math

from feller.core.errors import UsageError
from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe
from feller.networks.mlp import MLP
from feller.paths import Affine, Geodesic, Premetric
from feller.paths.time_distributions import Shifted, Stratified
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Manifold, Mesh, Sphere, Tokens, Torus
from feller.spaces.table_tokens import TableTokens
from feller.training.couplings import ClassConditional, GlobalBatchCoupling, IndependentCoupling, MinibatchOT
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig

MIN_ROWS = 30_000
"""Minimum number of rows for the full width of conditional models of size "small"."""


def points(data: Dataset, size: str) -> Recipe:
    """Return a recipe for points: affine flow, with a residual MLP on Fourier features.

    `size` is the size of the model: "tiny", "small" or "base". With conditions and few rows, "small" has the width of
    "tiny", since a wider network overfits.
    """
    if isinstance(data.modality.space(), Tokens | TableTokens):
        raise UsageError(
            f"the recipe `points` needs numeric data, but these data are {data.modality.display_name}",
            remedy="Use --recipe auto",
        )
    width, depth, minutes = {"tiny": (64, 3, 0.5), "small": (128, 3, 2.0), "base": (256, 5, 10.0)}[size]
    is_conditional = bool(data.modality.selected_conditions)
    if size == "small" and is_conditional and len(data) < MIN_ROWS:
        width = 64
    return Recipe(
        architecture=MLP(width=width, depth=depth, frequencies=4, condition_width=width if is_conditional else 0),
        objective=FlowMatching(Affine(), data.modality.space()),
        train=TrainConfig(batch_size=512, lr=2e-3, minutes=minutes, keep_best=is_conditional),
        sampling=SamplerConfig("midpoint", 64),
    )


TIME_SHIFT = 0.25
"""Shift of the distribution of training times: half of the times are above 1 / (1 + TIME_SHIFT) = 0.8."""
SPHERE_TIME_SHIFT = 0.1
"""Shift of the distribution of training times on spheres, where data are most clustered: half of the times are above
0.91."""


def manifold(data: Dataset, size: str) -> Recipe:
    """Return a recipe for points on manifolds: geodesic flow, with a residual MLP on Fourier features.

    `size` is the size of the model: "tiny", "small" or "base".

    Clustered data need late training times, since trajectories within a cluster separate late. On spheres, minibatch
    optimal transport reduces the variance of the regression target.
    """
    space = data.modality.space()
    if not isinstance(space, Manifold):
        raise UsageError("the recipe `manifold` needs points on a manifold", remedy="Use --recipe auto")
    width, depth, minutes = {"tiny": (64, 3, 0.5), "small": (128, 3, 2.0), "base": (256, 5, 10.0)}[size]
    path = Premetric(space) if isinstance(space, Mesh) else Geodesic(space)
    period = 2 * math.pi if isinstance(space, Torus) else None
    is_sphere = isinstance(space, Sphere)
    coupling = ClassConditional() if data.modality.conditions else MinibatchOT()
    return Recipe(
        architecture=MLP(width=width, depth=depth, frequencies=6 if is_sphere else 5, period=period),
        objective=FlowMatching(
            path,
            space,
            time_distribution=Stratified(Shifted(SPHERE_TIME_SHIFT if is_sphere else TIME_SHIFT)),
            coupling=GlobalBatchCoupling(coupling) if is_sphere else IndependentCoupling(),
        ),
        train=TrainConfig(batch_size=64 if isinstance(space, Mesh) else 512, lr=2e-3, minutes=minutes),
        sampling=SamplerConfig("midpoint", 64),
    )
