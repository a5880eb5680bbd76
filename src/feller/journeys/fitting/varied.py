"""Whether there is anything to learn from rows."""

from feller.data.modality import Dataset
from feller.data.rows.points import Points
from feller.data.table.mixed import as_table
from feller.data.table.modality import Table
from feller.errors import InputError
from feller.tree import leaves


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
