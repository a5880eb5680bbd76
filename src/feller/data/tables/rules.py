"""Rules between columns that every row satisfies: conditions, orders, combinations, and missing cells."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from feller.core.errors import InputError, error_context
from feller.data.tables.column import ModelledColumn
from feller.data.tables.constraints import MAX_RULE_CODES, Constraint, Pair, allowed_codes, check_forest
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical_column import Numerical

Mask = tuple[str, str, Bool[np.ndarray, "_ _"]]
"""Names of two columns, and the mask of the allowed pairs of their codes."""
_COARSE = {"microsecond": "us", "second": "s", "minute": "m", "hour": "h", "day": "D", "month": "M", "year": "Y"}
"""NumPy units of times, the finest first."""


@dataclass(frozen=True)
class Scale:
    """Common scale of the numbers or times of two columns: the most decimals, or the coarser unit of time."""

    column: Numerical | Datetime
    factor: int = 1
    """Common units in a unit of the column, if the column has numbers."""
    unit: str = ""
    """NumPy unit of the common scale, if the column has times."""

    def common(self, values: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Convert values in units of the column to common units, rounded down."""
        if isinstance(self.column, Datetime):
            return self.column.instants(values).astype(f"M8[{self.unit}]").astype(np.int64)
        return values * self.factor

    def lowest(self, common: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the smallest values in units of the column that are at least `common`."""
        if isinstance(self.column, Datetime):
            return self.column.units_of(common.astype(f"M8[{self.unit}]").astype("M8[us]"))
        return -(-common // self.factor)

    def highest(self, common: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the largest values in units of the column that are at most `common`."""
        return self.lowest(common + 1) - 1


def scales(a: ModelledColumn, b: ModelledColumn) -> tuple[Scale, Scale] | None:
    """Return the common scale of two columns of numbers in bins, or of times, for each column; None for others."""
    if isinstance(a, Numerical) and isinstance(b, Numerical) and not (a.digits or b.digits):
        decimals = max(a.form.decimals, b.form.decimals)
        return Scale(a, 10 ** (decimals - a.form.decimals)), Scale(b, 10 ** (decimals - b.form.decimals))
    if isinstance(a, Datetime) and isinstance(b, Datetime):
        unit = max((_COARSE[column.unit] for column in (a, b)), key=[*_COARSE.values()].index)
        return Scale(a, unit=unit), Scale(b, unit=unit)
    return None


@dataclass(frozen=True)
class Order:
    """Rule that the cell of one column is at most that of another column, where neither is missing."""

    lower: str
    upper: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the rule."""
        return (self.lower, self.upper)

    @property
    def text(self) -> str:
        """The rule as a sentence, for error messages."""
        return f"{self.lower} is at most {self.upper}"

    def masks(self, columns: Mapping[str, ModelledColumn]) -> Iterator[Mask]:
        """Yield the mask of the codes that stand for cells in order, among others."""
        a, b = (columns[name] for name in self.names)
        pair = scales(a, b)
        if pair is None:
            raise InputError(
                f"two columns of numbers in bins, or two columns of times, for the rule that {self.text}",
                " and ".join(type(column).__name__.lower() for column in (a, b)),
                "Declare both columns as numerical without digits, or as datetime",
            )
        lows, highs = np.array(value_bounds(a))[:, 0], np.array(value_bounds(b))[:, 1]
        allowed = np.ones((a.num_codes, b.num_codes), dtype=bool)
        allowed[: a.num_values, : b.num_values] = pair[0].common(lows)[:, None] <= pair[1].common(highs)[None, :]
        yield self.lower, self.upper, allowed


def value_bounds(column: ModelledColumn) -> list[tuple[int, int]]:
    """Return the first and the last integer that each code of a binned column stands for."""
    assert isinstance(column, Numerical | Datetime)
    return [column.levels.value_bounds(code) for code in range(column.levels.count)]


@dataclass(frozen=True)
class MissingTogether:
    """Rule that in each row either all cells of some columns are missing, or none."""

    together: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the rule."""
        return self.together

    @property
    def text(self) -> str:
        """The rule as a sentence, for error messages."""
        return f"{', '.join(self.together)} are missing together"

    def masks(self, columns: Mapping[str, ModelledColumn]) -> Iterator[Mask]:
        """Yield a mask for each pair of columns that follow each other in the rule."""
        for name in self.together:
            if columns[name].missing is None:
                raise InputError(
                    f'"missing", since {self.text}', "none", 'Add "missing" to the column', column=name
                )  # fmt: skip
        for a, b in zip(self.together, self.together[1:], strict=False):
            yield a, b, together_mask(columns[a], columns[b])


def together_mask(a: ModelledColumn, b: ModelledColumn) -> Bool[np.ndarray, "a b"]:
    """Return the mask of the codes of which both or neither stand for a missing cell."""
    missing_a, missing_b = (np.arange(column.num_codes) >= column.num_values for column in (a, b))
    return missing_a[:, None] == missing_b[None, :]


@dataclass(frozen=True)
class Combination:
    """Rule that two columns have only listed pairs of values, such as cities and countries."""

    columns: tuple[str, str]
    values: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the rule."""
        return self.columns

    @property
    def text(self) -> str:
        """The rule as a sentence, for error messages."""
        return f"{self.columns[0]} and {self.columns[1]} have a listed combination"

    def masks(self, columns: Mapping[str, ModelledColumn]) -> Iterator[Mask]:
        """Yield the mask of the listed pairs of codes."""
        a, b = (columns[name] for name in self.columns)
        if not self.values:
            raise InputError(f"the values of {self.text}", "none", 'Add "values": [["A", "B"], ...] to the rule')
        allowed = np.zeros((a.num_codes, b.num_codes), dtype=bool)
        for first, second in self.values:
            allowed |= a.matching(first)[:, None] & b.matching(second)[None, :]
        yield *self.columns, allowed


@dataclass(frozen=True)
class Unique:
    """Rule that the cells of an identifier column differ; generated identifiers do by construction."""

    unique: str
    """Name of the column."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the rule."""
        return (self.unique,)

    @property
    def text(self) -> str:
        """The rule as a sentence, for error messages."""
        return f"{self.unique} is unique"


Rule = Constraint | Order | MissingTogether | Combination | Unique
"""Rule of a schema; classes are distinguished by their fields in records."""


def named_values(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield the name of a column with each value or comparison that a rule has for it."""
    if isinstance(rule, Constraint):
        yield from (
            (name, value) for name, values in ((rule.when, rule.among), (rule.then, rule.only)) for value in values
        )
    elif isinstance(rule, Combination):
        yield from ((name, value) for pair in rule.values for name, value in zip(rule.columns, pair, strict=True))


def rules_as_text(rules: Sequence[Rule]) -> str:
    """Return rules as one text, for error messages."""
    return "; ".join(rule.text for rule in rules)


def compile_rules(
    rules: Sequence[Rule], columns: Sequence[ModelledColumn], implied: Sequence[Mask] = ()
) -> tuple[Pair, ...]:
    """Compile rules to masks of allowed pairs of codes, one mask per pair of columns.

    Args:
        rules: Rules between modelled columns; rules of unique columns have no masks.
        columns: Modelled columns.
        implied: Further masks, which follow from the kinds of columns.

    Raises:
        InputError: If a rule has an unknown column or value, the rules connect columns in a cycle, or no row satisfies
            all rules.
    """
    index = {column.name: i for i, column in enumerate(columns)}
    by_name = {column.name: column for column in columns}
    masks: dict[tuple[int, int], np.ndarray] = {}

    def add(first: str, second: str, allowed: np.ndarray) -> None:
        a, b = index[first], index[second]
        key, mask = ((a, b), allowed) if a < b else ((b, a), allowed.T)
        masks[key] = masks[key] & mask if key in masks else mask

    groups = []
    for rule in rules:
        if isinstance(rule, Unique):
            continue
        _check_names(rule, by_name)
        if isinstance(rule, MissingTogether):
            _ = list(rule.masks(by_name))
            groups.append(rule)
            continue
        for mask in rule.masks(by_name):
            add(*mask)
    for mask in implied:
        add(*mask)
    for rule in groups:
        for a, b in _spanning_pairs(rule, index, masks):
            add(a, b, together_mask(by_name[a], by_name[b]))
    pairs = tuple(Pair(a, b, mask) for (a, b), mask in sorted(masks.items()))
    check_forest(pairs, columns)
    if columns and not allowed_codes(pairs, [column.num_codes for column in columns])[0].any():
        raise InputError(f"no row can satisfy all rules ({rules_as_text(rules)})", remedy="Remove a rule")
    return pairs


def _check_names(rule: Rule, columns: Mapping[str, ModelledColumn]) -> None:
    for name in rule.names:
        if name not in columns:
            raise InputError.unknown_name("column of a rule", name, columns)
        if columns[name].num_codes > MAX_RULE_CODES:
            raise InputError(
                f"column {name!r} of a rule has more than {MAX_RULE_CODES:,} bins or values",
                remedy="Give the column fewer bins (`bins` in the schema)",
            )
    if len({*rule.names}) < max(2, len(rule.names)):
        raise InputError("a rule between two different columns, with values for each column", rule.text)


def _spanning_pairs(
    rule: MissingTogether, index: Mapping[str, int], masks: Mapping[tuple[int, int], np.ndarray]
) -> list[tuple[str, str]]:
    """Return pairs of columns that connect all columns of a rule, with pairs of other rules where there are any."""
    names = rule.together
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    known = [pair for pair in pairs if (min(index[n] for n in pair), max(index[n] for n in pair)) in masks]
    root = {name: name for name in names}
    chosen = []
    for a, b in [*known, *pairs]:
        if root[a] != root[b]:
            old = root[b]
            root = {name: root[a] if top == old else top for name, top in root.items()}
            chosen.append((a, b))
    return chosen


@dataclass(frozen=True, eq=False)
class OrderedPair:
    """Rule of order between two modelled columns, by their indices."""

    lower: int
    upper: int
    lower_scale: Scale
    upper_scale: Scale

    @cached_property
    def mask(self) -> Bool[np.ndarray, "a b"]:
        """Pairs of bins in which there are values in order, without missing cells."""
        lows = np.array(value_bounds(self.lower_scale.column))[:, 0]
        highs = np.array(value_bounds(self.upper_scale.column))[:, 1]
        return self.lower_scale.common(lows)[:, None] <= self.upper_scale.common(highs)[None, :]


def ordered_pairs(rules: Sequence[Rule], columns: Sequence[ModelledColumn]) -> tuple[OrderedPair, ...]:
    """Return the rules of order, sorted so that the pairs below a column come before those above it.

    Raises:
        InputError: If the rules of order form a cycle, or do not leave values for three columns in order.
    """
    index = {column.name: i for i, column in enumerate(columns)}
    orders = list(dict.fromkeys(rule for rule in rules if isinstance(rule, Order)))
    pairs = []
    while orders:
        uppers = {rule.upper for rule in orders}
        ready = [rule for rule in orders if rule.lower not in uppers]
        if not ready:
            names = list(dict.fromkeys(name for rule in orders for name in rule.names))
            raise InputError(
                f"rules of order form a cycle: {rules_as_text(orders)}",
                remedy=f'Remove one of them, or declare {names[-1]!r} as {{"kind": "copy", "source": {names[0]!r}}}',
            )
        for rule in ready:
            i, j = index[rule.lower], index[rule.upper]
            pair = scales(columns[i], columns[j])
            assert pair is not None  # checked with the masks
            pairs.append(OrderedPair(i, j, *pair))
        orders = [rule for rule in orders if rule not in ready]
    _check_chains(pairs, columns)
    return tuple(pairs)


def _check_chains(pairs: Sequence[OrderedPair], columns: Sequence[ModelledColumn]) -> None:
    """Raise an InputError if bins of a <= b <= c are allowed pairwise, but have no three values in order."""
    reach: dict[tuple[int, int], np.ndarray] = {}
    for pair in pairs:
        for (start, middle), mask in list(reach.items()):
            if middle != pair.lower:
                continue
            through = (mask.astype(np.int64) @ pair.mask) > 0
            ends = scales(columns[start], columns[pair.upper])
            assert ends is not None
            if (through & ~OrderedPair(start, pair.upper, *ends).mask).any():
                names = ", ".join(repr(columns[i].name) for i in (start, pair.lower, pair.upper))
                raise InputError(
                    f"the same bin edges in the columns {names}, which are in order",
                    "bins that overlap in other ways",
                    "Give these columns the same edges, low and high, or declare the larger ones as gap columns",
                )
            reach[start, pair.upper] = through
        reach[pair.lower, pair.upper] = pair.mask


def parse_rule(entry: Any, number: int) -> tuple[Rule, ...]:
    """Parse a rule of a schema file; an order of several columns becomes several rules."""
    with error_context(place=f"rule {number}"):
        keys = {*entry} if isinstance(entry, dict) else set()
        if keys == {"if", "then"}:
            return (_parse_condition(entry),)
        if keys == {"order"}:
            names = _names(entry["order"], entry, 2)
            return tuple(Order(a, b) for a, b in itertools.pairwise(names))
        if keys == {"missing_together"}:
            return (MissingTogether(_names(entry["missing_together"], entry, 2)),)
        if keys == {"unique"} and isinstance(entry["unique"], str):
            return (Unique(entry["unique"]),)
        if keys and keys <= {"combination", "values"} and "combination" in keys:
            return (_parse_combination(entry),)
        raise InputError(
            '{"if": {COLUMN: [...]}, "then": {COLUMN: [...]}}, {"order": [COLUMN, COLUMN]}, {"missing_together":'
            ' [COLUMN, COLUMN]}, {"combination": [COLUMN, COLUMN], "values": [[...], ...]} or {"unique": COLUMN}',
            f"{entry!r:.60}",
        )


def _parse_condition(entry: dict[str, Any]) -> Constraint:
    clauses = [entry[clause] for clause in ("if", "then")]
    if not all(isinstance(clause, dict) and len(clause) == 1 for clause in clauses):
        raise InputError('{"if": {COLUMN: [...]}, "then": {COLUMN: [...]}}', f"{entry!r:.60}")
    (when, among), (then, only) = (next(iter(clause.items())) for clause in clauses)
    lists = [_words(values if isinstance(values, list) else [values]) for values in (among, only)]
    if not all(isinstance(word, str) for texts in lists for word in texts):
        raise InputError('strings or comparisons such as "< 15"', f"{entry!r:.60}")
    return Constraint(when, tuple(lists[0]), then, tuple(lists[1]))


def _parse_combination(entry: dict[str, Any]) -> Combination:
    names = _names(entry["combination"], entry, 2)
    if len(names) > 2:
        raise InputError(
            "two columns in a combination", len(names),
            "Split the rule into pairs of columns, such as city with region and region with country",
        )  # fmt: skip
    values = entry.get("values", [])
    is_list = isinstance(values, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in values)
    pairs = [tuple(_words(pair)) for pair in values] if is_list else []
    if not pairs or not all(isinstance(word, str) for pair in pairs for word in pair):
        raise InputError(
            f'"values" with the allowed pairs of {names[0]} and {names[1]}, such as [["A", "B"]]',
            f"{values!r:.60}" if values else "none",
            "List all pairs of values that may occur",
        )
    return Combination((names[0], names[1]), tuple((a, b) for a, b in pairs))


def _names(value: Any, entry: Any, least: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < least or not all(isinstance(name, str) for name in value):
        raise InputError(f"a list of at least {least} names of columns", f"{entry!r:.60}")
    return tuple(value)


def _words(values: list[Any]) -> list[Any]:
    return [str(value) if type(value) is int else value for value in values]


def rule_as_dict(rule: Rule) -> dict[str, Any]:
    """Return a rule as the JSON object of a schema file."""
    if isinstance(rule, Constraint):
        return {"if": {rule.when: list(rule.among)}, "then": {rule.then: list(rule.only)}}
    if isinstance(rule, Order):
        return {"order": [rule.lower, rule.upper]}
    if isinstance(rule, MissingTogether):
        return {"missing_together": list(rule.together)}
    if isinstance(rule, Unique):
        return {"unique": rule.unique}
    return {"combination": list(rule.columns), "values": [list(pair) for pair in rule.values]}
