"""What a description of the columns lost of the cells of a real table, which a comparison of codes cannot see.

Where a schema clips, cells that it does not know become others, often missing ones, before anything is compared: a
table of empty cells then looks as good as real. So these numbers are of the cells as they are written.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from feller.data.loading.raw import FoundTable
from feller.data.tables.categorical import Categorical
from feller.data.tables.detect_schema import MISSING
from feller.data.tables.encoding import encode
from feller.data.tables.schema import Schema

EXPLAIN = {
    "empty": "Share of the cells of synthetic rows that are empty, over the columns that are learned; empty_real is"
    " what the real table has, and far above it the rows are of little use.",
    "empty_real": "The same share of the real table, as it is written.",
    "clipped": "Share of the cells of the real table that lie beyond what the schema knows, and were read as the"
    " nearest that it knows, or as empty; all comparisons are with what was read.",
    "clipped_max": "The same share of the column of which most is lost.",
    "clipped_worst": "That column; its shape is judged by what was read of it, so its real one is another.",
    "merged": "Share of the cells of the real table whose words the schema does not list, and that were read as the"
    " word for all others.",
    "cells_real": "How many cells of the real table the shares of those that were clipped and merged are of.",
    "left_out": "Columns of which noise hid what they hold: they are neither in the samples nor in any other number.",
}
"""One plain sentence for each number."""

FEW = 0.001
"""Share of the cells below which they are counted."""


def cells_lost(
    synthetic: Int64[Tensor, "n k"], real: FoundTable | None, schema: Schema
) -> dict[str, float | int | str | None]:
    """Measure empty cells, clipped ones, and columns that are left out, of a schema that clips; {} of others.

    Args:
        synthetic: Codes of the modelled columns.
        real: The cells of the real table; None where they are not at hand.
        schema: What the table was read by.
    """
    hidden: dict[str, float | int | str | None] = {"left_out": ", ".join(schema.untold)} if schema.untold else {}
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
    outside = encode(real, schema).outside / len(real.values)
    clipped = outside.mean().item()
    worst = (
        {"clipped_max": outside.max().item(), "clipped_worst": columns[int(outside.argmax())].name} if clipped else {}
    )
    merged = _merged(real, schema) / there.size
    lost = {"empty": float(made.mean()), "empty_real": float(there.mean()), "clipped": clipped, "merged": merged}
    return {**lost, **worst, "cells_real": there.size, **hidden}


def _merged(real: FoundTable, schema: Schema) -> int:
    """Count the cells whose words are read as the one for all others."""
    count = 0
    for column in schema.modelled:
        if isinstance(column, Categorical) and column.other is not None:
            known = {*column.values, column.other, *column.words_for_missing, *MISSING}
            count += sum(cell not in known for cell in real.column(column.name))
    return count


def told_lost(numbers: Mapping[str, object]) -> tuple[str, ...]:
    """Say what was lost of a table's cells, for the notes of its page; nothing where nothing was."""
    what = {
        "clipped": "of the real cells lie beyond what the schema knows: read as the nearest that it knows, or as empty",
        "merged": "of the real cells hold words that the schema does not list: read as the word for all others",
    }
    shares = {name: share for name in what if isinstance(share := numbers.get(name), float) and share > 0}
    return tuple(f"{_share(share, numbers.get('cells_real'))} {what[name]}" for name, share in shares.items())


def _share(share: float, total: object) -> str:
    """Write a share of the cells, of which few are counted."""
    if share < FEW and isinstance(total, int):
        return f"{round(share * total):,} of {total:,}"
    return f"{share:.1%}"
