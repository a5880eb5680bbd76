"""What a public schema reveals: rare values, and the facts it makes public."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal

from jaxtyping import Int64
from torch import Tensor

from feller.data.loading.raw import RawTable
from feller.data.tables.column import Boolean, Categorical, Column
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical_column import Numerical, finest
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Derived, FreeText

DIGITS = 3
"""Digits that a round number has, at most, before zeros."""
MANY_EDGES = 200
MAX_NAMED = 5
"""Words of a column that are named."""
FEW_ROWS = 10
"""Rows for each value of a column, below which its list of values looks like that of the data."""
MANY_ROWS = 100
"""Rows for each value, from which on values are no names of people, whatever they look like."""
MAIL = re.compile(r"[^@\s]+@[^@\s]+\.\w+")
NUMBER = re.compile(r"(?=(.*\d){5})[\w.+-]+")
"""Numbers of accounts, telephones and the like."""
PERSON = re.compile(r"[A-Z][a-z]+,? [A-Z]\.?[a-zA-Z'-]*( [A-Z][a-z'-]+)?")
SUSPECT_FRACTION = 0.5
"""Share of values that look like names or numbers of people, from which they are told of."""
NAMES = re.compile(
    r"(^|[_\s-])((first|last|full|sur)?name|e-?mail|phone|address|iban|ssn|passport)($|[_\s-])", re.IGNORECASE
)


def schema_warnings(schema: Schema, n: int) -> tuple[str, ...]:
    """Return warnings about a schema for a table of n rows; none where nothing looks taken from the rows."""
    return tuple(warning for column in schema.columns for warning in _column_warnings(column, n))


def rare_value_warnings(schema: Schema, raw: RawTable) -> tuple[str, ...]:
    """Return warnings about words that few rows have, and bounds and edges that were put where the rows lie."""
    warnings = []
    for column in schema.modelled:
        if isinstance(column, Categorical):
            counted = Counter(raw.column(column.name))
            few = [f"{word!r} ({counted[word]})" for word in column.values if counted[word] < FEW_ROWS]
            named = ", ".join(few[:MAX_NAMED]) + (" ..." if len(few) > MAX_NAMED else "")
            if few:
                warnings.append(
                    f"column {column.name!r} lists words that fewer than {FEW_ROWS} rows have: {named}; take them out,"
                    ' and give the column an "other"'
                )
    bounded = [column for column in schema.modelled if isinstance(column, Numerical | Datetime)]
    if bounded:
        edged = ", and edges follow how many lie where" if any(column.edges for column in bounded) else ""
        warnings.append(
            f"bounds of {', '.join(column.name for column in bounded)} come from the rows: they are next to the least"
            f" and the largest of them{edged}; write down ones that anybody knows"
        )
    return tuple(warnings)


def _column_warnings(column: Column, n: int) -> Iterator[str]:
    name = f"column {column.name!r}"
    if isinstance(column, FreeText):
        yield f"{name} is free text, which no model sees: each cell will be {column.instead!r}"
    elif NAMES.search(column.name):
        yield f"{name} sounds like people's names or addresses; describe it as an identifier or as text, or drop it"
    if isinstance(column, Numerical):
        odd = [number for number in (column.low, column.high, *column.edges) if _is_odd(number, column)]
        if odd:
            yield (
                f"{name} has {_listed(odd)} among its bounds and edges, which looks like a value of the data; round it,"
                " or take bounds that anybody knows"
            )
    if isinstance(column, Numerical | Datetime) and len(column.edges) > MANY_EDGES:
        yield f"{name} has {len(column.edges)} edges, which may trace single rows; take fewer, or bins of equal width"
    if isinstance(column, Categorical):
        yield from _of_values(column, name, n)


def _of_values(column: Categorical, name: str, n: int) -> Iterator[str]:
    values = column.values
    if len(values) > FEW_ROWS and len(values) * FEW_ROWS > n:
        yield (
            f"{name} lists {len(values)} values for {n:,} rows, so that some stand for single people; list what is"
            ' public, and give it an "other"'
        )
    for pattern, what in ((MAIL, "addresses"), (PERSON, "names of people"), (NUMBER, "numbers of people")):
        alike = [value for value in values if pattern.fullmatch(value)]
        many = pattern is MAIL or len(values) * MANY_ROWS > n
        if many and len(alike) > SUSPECT_FRACTION * len(values) and len(alike) > 2:
            yield f"{name} lists what looks like {what}, such as {alike[0]!r}; no model should write these"
            return


def _is_odd(number: float, column: Numerical) -> bool:
    """Tell whether a bound has more digits than anybody would choose."""
    exact, span = Decimal(repr(number)), Decimal(repr(column.high)) - Decimal(repr(column.low))
    digits = exact.normalize().as_tuple().digits
    nines = all(digit == 9 for digit in digits)  # 99,999 is the largest of five digits
    return len(digits) > DIGITS and not nines and bool(span) and bool(exact % finest(span))


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.12g}" for number in numbers[:3]) + (", ..." if len(numbers) > 3 else "")


MAX_RARE_ROWS = 2
"""Rows up to which a word points at people."""
MAX_NAMED_RARE = 8
"""Words of a column that are named."""


def public_facts(schema: Schema) -> str:
    """Say what the columns of a schema tell everybody, whatever epsilon is; of no row but by the schema."""
    facts = [f"{column.name}: {fact}" for column in schema.columns if (fact := _column_facts(column))]
    return f"The schema makes public, whatever epsilon is: {'; '.join(facts)}"


def rare_words(schema: Schema, codes: Int64[Tensor, "n k"]) -> tuple[str, ...]:
    """Return words of each column that one row or two have, with their number: for the owner of the rows alone."""
    return tuple(_pointing(schema, codes))


def _pointing(schema: Schema, codes: Int64[Tensor, "n k"]) -> Iterator[str]:
    for j, column in enumerate(schema.modelled):
        if not isinstance(column, Categorical):
            continue
        counts = codes[:, j].bincount(minlength=column.num_codes).tolist()
        had = zip(column.value_names, counts[: column.num_values], strict=True)
        few = [f"{word!r} ({n})" for word, n in had if 0 < n <= MAX_RARE_ROWS and word != column.other]
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
    more = len(words) - MAX_NAMED_RARE
    return ", ".join(words[:MAX_NAMED_RARE]) + (f" and {more} more" if more > 0 else "")
