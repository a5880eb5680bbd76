"""Tables: noisy counts of few columns, and the most random rows that agree with them."""

from feller.data.modality import Dataset
from feller.data.table.modality import Table
from feller.marginals.counting import Counting
from feller.marginals.network import Marginals
from feller.recipes.recipe import Recipe, need
from feller.sampling import Sampling

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
