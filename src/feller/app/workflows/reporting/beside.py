"""Tables that were made and real ones, side by side."""

from typing import Any

import numpy as np
from PIL import Image

from feller.app.workflows.reporting.comparison import Judged
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import Table
from feller.data.tables.numerical import Numerical
from feller.evaluation.report.table_figures import Labelled, columns_beside
from feller.evaluation.report.table_marks import audit_picture, worth_picture
from feller.evaluation.report.table_measures import AGAIN
from feller.evaluation.report.table_pairs import pairs_map
from feller.evaluation.report.wording import is_number, percent
from feller.evaluation.tables.marginal_distance import pair_errors


def tables_beside(judged: Judged, numbers: dict[str, Any]) -> list[tuple[str, Image.Image]]:
    """Draw each column, how far each pair of columns is off, what the table is worth, and what it gives away.

    Columns and pairs stand beside the training table, as `tv1`, `tv2` and the worst ones that the page names do.
    """
    kind = judged.generated.modality
    if not isinstance(kind, Table):
        return []
    made, true = kind.coarse(judged.generated.values), kind.coarse(judged.train.values)
    columns = [
        Labelled(column.name, column.coarse_names, isinstance(column, Numerical | Datetime))
        for column in kind.schema.modelled
    ]
    pictures = columns_beside(made.numpy(), true.numpy(), columns)
    parts = [f", part {k}" if len(pictures) > 1 else "" for k in range(1, len(pictures) + 1)]
    beside = f"beside the {len(true):,} training rows"
    shown = [
        (f"Columns{part}, {beside}{_floor('tv1', numbers)}", one) for part, one in zip(parts, pictures, strict=True)
    ]
    if len(columns) > 1:
        errors = np.asarray(pair_errors(made, true))
        caption = f"How far each pair of columns is off, {beside}{_floor('tv2', numbers)}"
        shown.append((caption, pairs_map(errors, [one.name for one in columns])))
    marks = (("What the table is worth", worth_picture(numbers)), ("What it gives away", audit_picture(numbers)))
    return [*shown, *((caption, one) for caption, one in marks if one is not None)]


def _floor(name: str, numbers: dict[str, Any]) -> str:
    """Say how far real rows are off by chance, on average over all that a picture shows."""
    floor = numbers.get(f"{name}_floor")
    return f"; {AGAIN} are {percent(floor)} off on average" if is_number(floor) else ""
