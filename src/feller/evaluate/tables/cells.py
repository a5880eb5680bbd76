"""What a description of the columns lost of the cells of a real table, which a comparison of codes cannot see.

Where a schema clips, cells that it does not know become others, often missing ones, before anything is compared: a
table of empty cells then looks as good as real. So these numbers are of the cells as they are written.
"""

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from feller.data.found import FoundTable
from feller.data.table.coding import encode
from feller.data.table.detect import MISSING
from feller.data.table.schema import Schema

EXPLAIN = {
    "empty": "Share of the cells of synthetic rows that are empty, over the columns that are learned; empty_real is"
    " what the real table has, and far above it the rows are of little use.",
    "empty_real": "The same share of the real table, as it is written.",
    "clipped": "Share of the cells of the real table that lie beyond what the schema knows, and were read as the"
    " nearest that it knows, or as empty; all comparisons are with what was read.",
    "left_out": "Columns of which noise hid what they hold: they are neither in the samples nor in any other number.",
}
"""One plain sentence for each number."""


def cells_lost(
    synthetic: Int64[Tensor, "n k"], real: FoundTable | None, schema: Schema
) -> dict[str, float | str | None]:
    """Measure empty cells, clipped ones, and columns that are left out, of a schema that clips; {} of others.

    Args:
        synthetic: Codes of the modelled columns.
        real: The cells of the real table; None where they are not at hand.
        schema: What the table was read by.
    """
    hidden: dict[str, float | str | None] = {"left_out": ", ".join(schema.untold)} if schema.untold else {}
    if real is None or not len(real.values) or not len(synthetic) or schema.outside != "clip":
        return hidden
    columns = schema.modelled
    ends = np.array([column.own_count for column in columns])
    may_miss = np.array([column.missing is not None for column in columns])
    made = (synthetic.cpu().numpy() == ends) & may_miss
    there = np.array(
        [
            [cell in MISSING or cell in column.words_for_missing for cell in real.column(column.name)]
            for column in columns
        ]
    )
    clipped = encode(real, schema).outside.sum().item() / there.size
    return {"empty": float(made.mean()), "empty_real": float(there.mean()), "clipped": clipped, **hidden}
