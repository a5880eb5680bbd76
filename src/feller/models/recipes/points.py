"""Points in R^d."""

from feller.core.errors import UsageError
from feller.data.modality import Dataset
from feller.data.tables.modality import Table
from feller.data.text.text_modality import Text
from feller.models.recipes.recipe import Recipe
from feller.networks.networks_mlp import MLP
from feller.paths import Affine
from feller.sampling.sampler_config import Sampling
from feller.training.objective import Matching
from feller.training.optimizer import Training


def points(data: Dataset, size: str) -> Recipe:
    """Straight paths and a residual perceptron that sees each coordinate in several frequencies."""
    if isinstance(data.modality, Text | Table):
        raise UsageError(
            f"the recipe `points` needs numbers, and these data are {data.modality.called}; use --recipe auto"
        )
    width, depth, minutes = {"tiny": (64, 3, 0.5), "small": (128, 3, 2.0), "base": (256, 5, 10.0)}[size]
    return Recipe(
        architecture=MLP(width=width, depth=depth, frequencies=4),
        objective=Matching(Affine(), data.modality.space()),
        train=Training(batch=512, lr=2e-3, minutes=minutes),
        sampling=Sampling("midpoint", 64),
    )
