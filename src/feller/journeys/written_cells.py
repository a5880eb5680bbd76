"""Numbers of the cells of a table as they stand in its file, beside those of what was read of them."""

import pathlib

from feller.data.find import table_cells
from feller.data.table.modality import Table
from feller.evaluate.tables.cells import cells_lost
from feller.evaluate.tables.quality import Numbers
from feller.journeys.begin import TABLES
from feller.journeys.judged import Judged


def of_cells(judged: Judged, data: str) -> Numbers:
    """Measure what reading lost of the cells of a table; nothing of other data, or where reading loses none.

    The numbers are of real rows, without noise: like the rest of a report they are for whoever owns the rows.

    Args:
        judged: What is compared.
        data: What the run was fitted to.
    """
    kind = judged.generated.modality
    if not isinstance(kind, Table) or kind.schema.outside != "clip":
        return {}
    path = pathlib.Path(judged.data or data)
    real = table_cells(path) if path.suffix.lower() in TABLES and path.is_file() else None
    return cells_lost(judged.generated.values, real, kind.schema)
