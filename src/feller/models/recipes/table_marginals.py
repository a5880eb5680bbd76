"""Tables: noisy counts of few columns, and the most random rows that agree with them."""

from feller.data.modality import Dataset
from feller.data.tables.modality import Table
from feller.models.recipes.recipe import Recipe, need
from feller.privacy.marginals.marginal_network import Marginals
from feller.sampling.sampler_config import Sampling
from feller.training.objectives.marginal_counts import Counting

ROOM = {"tiny": 0.1, "small": 1.0, "base": 8.0}
"""Memory of the model in MiB, by size."""


def table_marginals(data: Dataset, size: str) -> Recipe:
    """Rows are counted, not trained on: seconds on one core, and exact conditions in any columns.

    `objective.method` says how tables are chosen. Numbers that other models write digit by digit are seen by bins.
    """
    table = need(data.modality, Table, "table-marginals", "a table")
    modality = table.by_levels().with_shares(())
    space = modality.space()
    return Recipe(
        architecture=Marginals(space),
        objective=Counting(space, room=ROOM[size]),
        modality=modality,
        sampling=Sampling("euler"),
    )
