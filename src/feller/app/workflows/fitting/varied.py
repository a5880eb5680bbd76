"""Whether there is anything to learn from rows."""

from feller.core.errors import InputError
from feller.core.pytree import leaves
from feller.data.modality import Dataset
from feller.data.points.points import Points
from feller.data.tables.mixed import as_table
from feller.data.tables.modality import Table


def check_varied(dataset: Dataset) -> None:
    """Refuse rows of a table that are all the same; of a private fit that would tell of its rows, so do not ask there.

    Raises:
        InputError: Then.
    """
    rows = isinstance(dataset.modality, Points) or isinstance(as_table(dataset).modality, Table)
    if dataset.stream is not None or not rows or len(dataset) < 2 or dataset.given or dataset.target is not None:
        return
    if all(bool((leaf == leaf[:1]).all()) for leaf in leaves(dataset.values)):
        raise InputError(f"all {len(dataset):,} rows are the same, so there is nothing to learn; give rows that differ")
