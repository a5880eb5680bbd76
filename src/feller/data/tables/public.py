"""What a schema makes public, in words, and which of its words would point at single rows."""

from collections.abc import Iterator

from jaxtyping import Int64
from torch import Tensor

from feller.data.tables.categorical import Boolean, Categorical
from feller.data.tables.column import Column
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived

FEW = 2
"""Rows up to which a word points at people."""
NAMED = 8
"""Words of a column that are named."""


def made_public(schema: Schema) -> str:
    """Say what the columns of a schema tell everybody, whatever epsilon is; of no row but by the schema."""
    told = [f"{column.name}: {said}" for column in schema.columns if (said := _column_facts(column))]
    return f"The schema makes public, whatever epsilon is: {'; '.join(told)}"


def seldom(schema: Schema, codes: Int64[Tensor, "n k"]) -> tuple[str, ...]:
    """Return words of each column that one row or two have, with their number: for the owner of the rows alone."""
    return tuple(_pointing(schema, codes))


def _pointing(schema: Schema, codes: Int64[Tensor, "n k"]) -> Iterator[str]:
    for j, column in enumerate(schema.modelled):
        if not isinstance(column, Categorical):
            continue
        counts = codes[:, j].bincount(minlength=column.count).tolist()
        had = zip(column.own_names, counts[: column.own_count], strict=True)
        few = [f"{word!r} ({n})" for word, n in had if 0 < n <= FEW and word != column.other]
        if few:
            yield f"{column.name}: {_listed_words(few)}"


def _column_facts(column: Column) -> str:
    """Say what is known of one column; nothing of columns that are made up or left empty."""
    if isinstance(column, Categorical):
        return f"{_count(len(column.values), 'word')}, {_listed_words([repr(word) for word in column.values])}"
    if isinstance(column, Boolean):
        return f"{column.true!r} or {column.false!r}"
    if isinstance(column, Numerical):
        heavy = f", {_count(len(column.heavy), 'frequent number')}" if column.heavy else ""
        return f"from {column.low:.12g} to {column.high:.12g}{_edges(column)}{heavy}"
    if isinstance(column, Datetime):
        return f"from {column.first} to {column.last}{_edges(column)}"
    if isinstance(column, Derived):
        return f"follows from {column.source} by {_count(len(column.mapping), 'pair')}"
    return ""


def _edges(column: Numerical | Datetime) -> str:
    return f", {_count(len(column.edges), 'edge')} between" if column.edges else ""


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _listed_words(words: list[str]) -> str:
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")
