"""Tables that were made and real ones, side by side."""

from typing import Any

import numpy as np
from PIL import Image

from feller.data.table.dates import Datetime
from feller.data.table.modality import Table
from feller.data.table.numerical import Numerical
from feller.evaluate.tables.marginals import pair_errors
from feller.journeys.reporting.judged import Judged
from feller.report.table_columns import Labelled, columns_beside
from feller.report.table_marks import audit_picture, worth_picture
from feller.report.table_pairs import pairs_map


def tables_beside(judged: Judged, numbers: dict[str, Any]) -> list[tuple[str, Image.Image]]:
    """Draw each column, how far each pair of columns is off, what the table is worth, and what it gives away."""
    kind = judged.generated.modality
    if not isinstance(kind, Table):
        return []
    real = judged.held_out if len(judged.held_out) else judged.train
    made, true = kind.coarse(judged.generated.values), kind.coarse(real.values)
    columns = [
        Labelled(column.name, column.coarse_names, isinstance(column, Numerical | Datetime))
        for column in kind.schema.modelled
    ]
    pictures = columns_beside(made.numpy(), true.numpy(), columns)
    shown = [(f"Columns{f', part {k}' if len(pictures) > 1 else ''}", one) for k, one in enumerate(pictures, 1)]
    if len(columns) > 1:
        errors = np.asarray(pair_errors(made, true))
        shown.append(("How far each pair of columns is off", pairs_map(errors, [one.name for one in columns])))
    marks = (("What the table is worth", worth_picture(numbers)), ("What it gives away", audit_picture(numbers)))
    return [*shown, *((caption, one) for caption, one in marks if one is not None)]
