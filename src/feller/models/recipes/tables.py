"""Tables: each row a short sentence, a law of which is learned column after column."""

from feller.data.modality import Dataset
from feller.data.tables.modality import Table
from feller.models.recipes.recipe import Recipe, need
from feller.networks.sequence.row_transformer import RowTransformer
from feller.sampling.sampler_config import Sampling
from feller.training.objectives.row_likelihood import RowLikelihood
from feller.training.optimizer import Training

SIZES = {"tiny": (32, 2, 4, 200), "small": (64, 2, 4, 400), "base": (128, 3, 4, 1500)}
"""Width, depth, heads and steps."""
MOST, SHARE = 1024, 4
"""Rows of a batch, and of all rows a fourth, at most: few large batches suit private noise."""
TAUGHT = 3 / 8
"""Of the steps, where the network begins with what counts told it."""
UNBOUND = 1e6
"""Length to which gradients are not cut: the private way cuts those of single rows."""
RAKED = 3
"""Rows that are drawn for each one that is taken."""


def table(data: Dataset, size: str) -> Recipe:
    """Every column from those before it, by a small causal transformer that knows the schema.

    Learning one order alone is far quicker; with `objective.shuffled` 1 all are learned, and anything can be given.
    """
    modality = need(data.modality, Table, "table", "a table")
    width, depth, heads, steps = SIZES[size]
    space, taught = modality.space(), bool(modality.told)
    return Recipe(
        architecture=RowTransformer(space, width=width, depth=depth, heads=heads),
        objective=RowLikelihood(space, shuffled=0.0),
        train=Training(
            batch=max(1, min(MOST, len(data) // SHARE)),
            steps=round(TAUGHT * steps) if taught else steps,
            lr=1e-3 if taught else 4e-3,
            betas=(0.9, 0.99),
            warmup=20,
            clip=UNBOUND,
            average=0.98,
        ),
        sampling=Sampling("euler", rake=RAKED if modality.shares else 0),
    )
