"""Two classes told apart by a weighted sum, whose weights are told with noise."""

import math

from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.tables.modality import Table
from feller.models.recipes.recipe import Recipe
from feller.networks.linear import Features, Levels, Linear, Pixels
from feller.paths.estimates import Estimates
from feller.training.objectives.output_perturbation import Perturbation

BRIGHT = 0.3
"""Of a white picture, the length that a picture is cut to: a gray of 0.3 throughout, or less that is brighter."""


def logistic_private(data: Dataset, size: str) -> Recipe:
    """The best weights are found at once, and one dose of noise hides each row; pictures and tables with a schema.

    Raises:
        UsageError: If nothing is asked for, there are not two classes, or the data are of another kind.
    """
    if data.target is None:
        raise UsageError(
            "the recipe `logistic-private` needs what it is to tell: --target COLUMN, or label of pictures"
        )
    kind, seen = data.modality, None
    features: Features
    if isinstance(kind, Table):
        seen = kind.by_levels().with_shares(())
        features = Levels(seen.counts, seen.schema.place(data.target.names[0]))
    elif isinstance(kind, Images):
        features = Pixels(kind.shape, BRIGHT * math.prod(kind.shape) ** 0.5)
    else:
        raise UsageError(f"the recipe `logistic-private` needs pictures or a table with a schema, got {kind.called}")
    space = (seen or kind).space()
    return Recipe(
        architecture=Linear(features),
        objective=Perturbation(Estimates(data.target), space, features),
        modality=seen,
    )
