"""What a person is told of columns and words that noise hides.

All of it follows from the schema that was found, that is from noisy counts that the ledger charges, from names and
number of the columns and the number of rows, which are public, and from what was asked: never from a cell. So it may
be said, written into the run, and given away with the model; which columns are hidden differs from run to run.
"""

import shlex
from collections.abc import Sequence

from feller.data.tables.clipped_cells import Beyond
from feller.data.tables.kept import Kept
from feller.data.tables.schema import Schema

MOST = 8
"""Columns that are named."""


def hidden_line(schema: Schema, data: str, n: int, epsilon: float) -> tuple[str, ...]:
    """Say which columns noise hid, what becomes of them, and what to do; nothing where it hid none.

    Args:
        schema: That was found.
        data: File with the table.
        n: Rows that were looked at.
        epsilon: What looking has spent.
    """
    hidden = schema.untold
    if not hidden:
        return ()
    return (
        f"noise hid what {listed(hidden)} {'hold' if len(hidden) > 1 else 'holds'} ({len(hidden)} of"
        f" {len(schema.columns)} columns), of {n:,} rows at epsilon {epsilon:.2g} for looking: left out of the model"
        f" and of all samples. {advice(data)}",
    )


def merged_line(kept: Sequence[Kept]) -> tuple[str, ...]:
    """Say of which columns rare words are merged, how many there are kept of each, and from how many rows on.

    Args:
        kept: Of each column of words.
    """
    if not kept:
        return ()
    order = sorted(kept, key=lambda one: -(one.share or 0.0))
    named = "; ".join(_of(one) for one in order[:MOST])
    more = f"; and so on in {len(order) - MOST} more columns" if len(order) > MOST else ""
    rows = max(one.rows for one in kept)
    return (f"words of fewer than about {rows:,.0f} rows are {kept[0].other}; {named}{more}",)


def _of(one: Kept) -> str:
    """Tell of one column."""
    words = "1 word" if one.words == 1 else f"{one.words} words"
    if one.share is None:
        return f"{one.column}: {words} kept, noise hides how many cells hold others"
    return f"{one.column}: {words} kept, all others (about {one.share:.0%} of its cells) are {one.other}"


def beyond_line(beyond: Sequence[Beyond], data: str) -> tuple[str, ...]:
    """Say of which columns many cells lie beyond the bounds that were found, and what to do.

    Args:
        beyond: Of each such column.
        data: File with the table.
    """
    if not beyond:
        return ()
    order = sorted(beyond, key=lambda one: -one.share)
    named = "; ".join(f"{one.column}: {one.first} to {one.last}, about {one.share:.0%} beyond" for one in order[:MOST])
    more = f"; and so on in {len(order) - MOST} more columns" if len(order) > MOST else ""
    return (
        f"bounds that were found leave much out, which is read as the nearest bound or as empty: {named}{more}."
        f" {advice(data)}",
    )


def refusal(untold: Sequence[str], columns: int, n: int, sigma: float, data: str) -> str:
    """Say that noise left too little to learn.

    Args:
        untold: Columns that it hid.
        columns: All there are.
        n: Rows that were looked at.
        sigma: Deviation of the noise on each count, in rows.
        data: File with the table.
    """
    which = f"{listed(untold)} ({len(untold)} of {columns} columns)" if untold else "all columns"
    return (
        f"noise hid what {which} hold: each count of {n:,} rows is off by about {sigma:,.0f}, so that there is nothing"
        f" to learn and samples would be empty. {advice(data)}"
    )


def advice(data: str) -> str:
    """Say what to do about it."""
    return (
        f"Describe the columns (feller data schema {shlex.quote(data)} --out schema.json, look through it, and fit with"
        " --schema schema.json), or take more rows or a larger --epsilon"
    )


def listed(names: Sequence[str]) -> str:
    """Name columns, not all of many."""
    more = len(names) - MOST
    return f"{', '.join(names[:MOST])} and {more} more" if more > 0 else ", ".join(names)
