"""Disclosure checks of a public schema: warnings on rare values, and a description of the facts that it discloses.

Columns that the schema declares as public facts have no warnings.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal

from jaxtyping import Int64
from torch import Tensor

from feller.data.loading.raw import RawTable
from feller.data.tables.column import Boolean, Categorical, Column
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import Copy, Gap, Sum
from feller.data.tables.grouped_column import Grouped
from feller.data.tables.numerical_column import Numerical, finest
from feller.data.tables.schema import Schema
from feller.data.tables.schema_detection import ALL_DIFFERENT
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier, SkippedColumn

DIGITS = 3
"""Maximum number of significant digits in a round number."""
MANY_EDGES = 200
MAX_NAMED = 5
"""Maximum number of cell texts quoted in a warning."""
FEW_ROWS = 10
"""Number of rows per value below which a list of values may be copied from the data."""
MANY_ROWS = 100
"""Number of rows per value above which values are assumed not to be personal names."""
MAIL = re.compile(r"[^@\s]+@[^@\s]+\.\w+")
NUMBER = re.compile(r"(?=(.*\d){5})[\w.+-]+")
"""Regular expression for account numbers, telephone numbers and similar numbers."""
PERSON = re.compile(r"[A-Z][a-z]+,? [A-Z]\.?[a-zA-Z'-]*( [A-Z][a-z'-]+)?")
SUSPECT_FRACTION = 0.5
"""Fraction of values that look like personal names or numbers above which a warning is given."""
NAMES = re.compile(
    r"(^|[_\s-])((first|last|full|sur)?name|e-?mail|phone|address|iban|ssn|passport)($|[_\s-])", re.IGNORECASE
)


def schema_warnings(schema: Schema, n: int) -> tuple[str, ...]:
    """Return warnings on parts of a schema that look copied from the rows of its table, which has n rows."""
    return tuple(warning for column in _not_public(schema) for warning in _column_warnings(column, n))


def _not_public(schema: Schema) -> list[Column]:
    return [column for column in schema.columns if column.name not in schema.public]


def rare_value_warnings(schema: Schema, raw: RawTable) -> tuple[str, ...]:
    """Return warnings on words that are rare in the table, and on bounds and bin edges derived from its rows."""
    warnings = []
    for column in _not_public(schema):
        if isinstance(column, Categorical):
            counts = Counter(raw.column(column.name))
            rare = [f"{word!r} ({counts[word]})" for word in column.values if counts[word] < FEW_ROWS]
            listed = ", ".join(rare[:MAX_NAMED]) + (" ..." if len(rare) > MAX_NAMED else "")
            if rare:
                warnings.append(
                    f"column {column.name!r} lists words of fewer than {FEW_ROWS} rows: {listed}; merge them"
                    f" (--rare {FEW_ROWS}), or declare them public (--public {shlex.quote(column.name)})"
                )
    bounded = [column for column in _not_public(schema) if isinstance(column, Numerical | Datetime)]
    if bounded:
        edges_note = ", and edges are quantiles of the rows" if any(column.edges for column in bounded) else ""
        warnings.append(
            f"bounds of {', '.join(column.name for column in bounded)} come from the rows, close to their minimum"
            f" and maximum{edges_note}; replace them by public ones"
        )
    return tuple(warnings)


def detection_notes(schema: Schema, raw: RawTable) -> tuple[str, ...]:
    """Return notes on columns of a detected schema that the owner of the table may want to declare otherwise."""
    notes = []
    for column in schema.columns:
        if isinstance(column, SkippedColumn):
            notes.append(f"column {column.name!r} has only missing cells; skipped")
        elif isinstance(column, Identifier) or (isinstance(column, Numerical) and not column.form.decimals):
            notes += _unique_notes(column, raw)
    return tuple(notes)


def _unique_notes(column: Identifier | Numerical, raw: RawTable) -> Iterator[str]:
    n, num_values, name = len(raw.values), len(raw.factorize(column.name).uniques), f"column {column.name!r}"
    flag_name = shlex.quote(column.name)
    if isinstance(column, Numerical):
        if num_values == n >= ALL_DIFFERENT:
            yield f"{name}: all {n:,} numbers differ; if they identify rows, declare it with --identifier {flag_name}"
    elif num_values < n:
        yield (
            f"{name} identifies people with several rows each ({n:,} rows, {num_values:,} values); to model and protect"
            f" people instead of rows, use --person {flag_name}"
        )
    else:
        yield f"{name}: all {n:,} values differ, so it is an identifier; samples get new numbers"


def _column_warnings(column: Column, n: int) -> Iterator[str]:
    name = f"column {column.name!r}"
    if isinstance(column, FreeText):
        yield f"{name} is free text and not modelled: each cell will be {column.instead!r}"
    elif NAMES.search(column.name):
        yield f"{name} may contain personal names or addresses; declare it as identifier or text, or remove it"
    if isinstance(column, Numerical):
        odd_numbers = [
            number for number in (column.low, column.high, *column.edges, *column.numbers) if _is_odd(number, column)
        ]
        if odd_numbers:
            yield (
                f"{name} has {_listed(odd_numbers)} among its bounds and edges, which may be a value of the data;"
                " round it, or use public bounds"
            )
    if isinstance(column, Numerical | Datetime) and len(column.edges) > MANY_EDGES:
        yield f"{name} has {len(column.edges)} edges, which may reveal single rows; use fewer, or equal-width bins"
    if isinstance(column, Categorical):
        yield from _of_values(column, name, n)


def _of_values(column: Categorical, name: str, n: int) -> Iterator[str]:
    values = column.values
    if len(values) > FEW_ROWS and len(values) * FEW_ROWS > n:
        yield (
            f"{name} lists {len(values)} values for {n:,} rows, so some may identify individuals; list public"
            ' values, and add "other"'
        )
    for pattern, label in ((MAIL, "e-mail addresses"), (PERSON, "personal names"), (NUMBER, "personal numbers")):
        matches = [value for value in values if pattern.fullmatch(value)]
        is_suspect = pattern is MAIL or len(values) * MANY_ROWS > n
        if is_suspect and len(matches) > SUSPECT_FRACTION * len(values) and len(matches) > 2:
            yield f"{name} lists values that look like {label}, such as {matches[0]!r}; a model must not generate these"
            return


def _is_odd(number: float, column: Numerical) -> bool:
    """Return True if a bound has more digits than a person would choose."""
    exact, span = Decimal(repr(number)), Decimal(repr(column.high)) - Decimal(repr(column.low))
    digits = exact.normalize().as_tuple().digits
    is_nines = all(digit == 9 for digit in digits)  # 99,999 is the largest of five digits
    return len(digits) > DIGITS and not is_nines and bool(span) and bool(exact % finest(span))


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.12g}" for number in numbers[:3]) + (", ..." if len(numbers) > 3 else "")


MAX_RARE_ROWS = 2
"""Maximum number of rows that contain a rare word; rare words may identify individuals."""
MAX_NAMED_RARE = 8
"""Maximum number of rare words listed per column."""


def public_facts(schema: Schema) -> str:
    """Describe the facts that a schema discloses at any epsilon; the text depends on the schema only."""
    return f"The schema itself is public, independent of epsilon: {schema_facts(schema)}"


def schema_facts(schema: Schema) -> str:
    """Describe the values or the range of each column, on one line."""
    return "; ".join(f"{column.name}: {fact}" for column in schema.columns if (fact := _column_facts(column)))


def rare_words(schema: Schema, codes: Int64[Tensor, "n k"]) -> tuple[str, ...]:
    """Return a line for each column with the words that occur in one or two rows; confidential, for the data owner."""
    return tuple(_pointing(schema, codes))


def _pointing(schema: Schema, codes: Int64[Tensor, "n k"]) -> Iterator[str]:
    for j, column in enumerate(schema.modelled):
        if not isinstance(column, Categorical) or column.name in schema.public:
            continue
        counts = codes[:, j].bincount(minlength=column.num_codes).tolist()
        word_counts = zip(column.value_names, counts[: column.num_values], strict=True)
        rare = [f"{word!r} ({n})" for word, n in word_counts if 0 < n <= MAX_RARE_ROWS and word != column.other]
        if rare:
            yield f"{column.name}: {_listed_words(rare)}"


def _column_facts(column: Column) -> str:
    """Describe the public facts on one column; empty for generated or empty columns."""
    if isinstance(column, Categorical):
        return f"{_count(len(column.values), 'word')}, {_listed_words([repr(word) for word in column.values])}"
    if isinstance(column, Grouped):
        words = _listed_words([repr(word) for word in column.words])
        return f"{_count(len(column.words), 'word')} in {_count(column.num_values, 'group')}, {words}"
    if isinstance(column, Boolean):
        return f"{column.true!r} or {column.false!r}"
    if isinstance(column, Numerical):
        if column.numbers:
            return f"{_count(len(column.numbers), 'number')}, {_listed(column.numbers)}"
        heavy = f", {_count(len(column.heavy), 'frequent number')}" if column.heavy else ""
        return f"from {column.low:.12g} to {column.high:.12g}{_edges(column)}{heavy}"
    if isinstance(column, Datetime):
        return f"from {column.first} to {column.last}{_edges(column)}"
    if isinstance(column, Gap):
        return f"{column.after} plus {_column_facts(column.amount)}"
    if isinstance(column, Copy):
        return f"a copy of {column.source}"
    if isinstance(column, Sum):
        return f"the sum of {' and '.join(column.parts)}"
    if isinstance(column, Derived):
        return f"derived from {column.source} by {_count(len(column.mapping), 'pair')}"
    return ""


def _edges(column: Numerical | Datetime) -> str:
    return f", {_count(len(column.edges), 'edge')} between" if column.edges else ""


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _listed_words(words: list[str]) -> str:
    num_omitted = len(words) - MAX_NAMED_RARE
    return ", ".join(words[:MAX_NAMED_RARE]) + (f" and {num_omitted} more" if num_omitted > 0 else "")
