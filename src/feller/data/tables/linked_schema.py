"""Description of tables that are linked by keys: persons, their rows in other tables, and rows of those rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from feller.core.errors import InputError, error_context
from feller.data.tables.column import Categorical, Column
from feller.data.tables.dates import Datetime
from feller.data.tables.history_schema import MAX_ROWS, HistorySchema
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.renaming import renamed_column, renamed_rule
from feller.data.tables.rules import Rule
from feller.data.tables.schema import Schema
from feller.data.tables.unmodelled_columns import Identifier
from feller.spaces.history_tokens import longest_paths

TYPE_COLUMN = "table"
"""Name of the column with the table of each row of a person."""


@dataclass(frozen=True)
class ForeignKey:
    """Columns of a table whose cells are those of the primary key of a row of another table."""

    columns: tuple[str, ...]
    table: str
    """Name of the other table."""


@dataclass(frozen=True)
class TableKeys:
    """Keys and column names of one of several linked tables."""

    name: str
    columns: tuple[str, ...] = ()
    """Names of all columns, in order; empty for a lookup table, which is not generated."""
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    order: str | None = None
    """Name of the column by which the rows of a parent are sorted; None for the order of the file."""
    gap: Numerical | None = None
    """Bounds and bins of the difference of `order` from row to row of a parent, in days or the finest unit of its
    format, or for numbers in their own unit; None to model its values instead of differences."""

    @property
    def gap_name(self) -> str:
        """Name of the column of differences in the schema of all tables."""
        return f"{self.name}.{self.order} gap"

    @property
    def is_lookup(self) -> bool:
        """True for a table of public facts, such as products: foreign keys refer to its rows, but none is generated."""
        return not self.columns

    def own_name(self, column: str) -> str:
        """Return the name of a column without the name of the table."""
        return column.removeprefix(f"{self.name}.")


@dataclass(frozen=True)
class Links:
    """Tables that are generated, and how their rows belong to each other: persons first, parents before children."""

    tables: tuple[TableKeys, ...]
    """Table of persons, and the tables of their rows."""
    lookups: tuple[TableKeys, ...] = ()
    """Tables of public facts."""

    @property
    def persons(self) -> TableKeys:
        """Table with one row per person."""
        return self.tables[0]

    @property
    def children(self) -> tuple[TableKeys, ...]:
        """Tables of rows of persons, or of rows of other tables."""
        return self.tables[1:]

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Index in `tables` of the table to whose rows the rows of each child table belong."""
        index = {table.name: i for i, table in enumerate(self.tables)}
        return tuple(max(index[key.table] for key in self.parent_keys(table)) for table in self.children)

    def parent_keys(self, table: TableKeys) -> list[ForeignKey]:
        """Return the foreign keys of a table to generated tables."""
        names = {other.name for other in self.tables}
        return [key for key in table.foreign_keys if key.table in names]

    def ancestors(self, child: int) -> list[int]:
        """Return the indices in `tables` of the parent of a child table, of its parent, and so on up to the persons."""
        found = [self.parents[child - 1]]
        while found[-1]:
            found.append(self.parents[found[-1] - 1])
        return found

    def is_single(self, child: int) -> bool:
        """Return True if each parent has at most one row of a child table: its foreign key is its primary key."""
        table, parent = self.tables[child], self.tables[self.parents[child - 1]]
        copied = {name for key in self.parent_keys(table) for name in key.columns}
        of_parent = {name for key in table.foreign_keys if key.table == parent.name for name in key.columns}
        return bool(of_parent & {*table.primary_key}) and {*table.primary_key} <= copied

    @cached_property
    def kinds(self) -> tuple[tuple[TableKeys, bool], ...]:
        """Kinds of rows: child tables, and whether the row has a difference from the row before instead of a value."""
        return tuple((t, is_next) for t in self.children for is_next in ([False] if t.gap is None else [False, True]))

    def may_follow(self, kind: int, following: int) -> bool:
        """Return True if a row of the kind `following` may come directly after a row of a kind.

        Its parent must be among the row and its ancestors, and rows of a parent come table by table.
        """
        names = [table.name for table in self.tables]
        (table, _), (next_table, is_next) = self.kinds[kind], self.kinds[following]
        child, next_child = names.index(table.name), names.index(next_table.name)
        path = [child, *self.ancestors(child)]
        parent = self.parents[next_child - 1]
        if parent not in path:
            return False
        if parent == child:
            return not is_next
        current = path[path.index(parent) - 1]
        if next_child == current:
            return not self.is_single(next_child) and is_next == (next_table.gap is not None)
        return next_child > current and not is_next

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """Kinds of rows that may come directly after a row of each kind."""
        kinds = range(len(self.kinds))
        return tuple(tuple(j for j in kinds if self.may_follow(i, j)) for i in kinds)

    def is_first(self, kind: int) -> bool:
        """Return True if the first row of a person may be of a kind."""
        table, is_next = self.kinds[kind]
        return self.parents[self.children.index(table)] == 0 and not is_next

    def longest(self, limit: int) -> int:
        """Return the maximum number of rows of a person, at most `limit`: tables with one row per parent are finite."""
        steps = longest_paths(self.successors, limit - 1)
        return 1 + max(steps[kind] for kind in range(len(self.kinds)) if self.is_first(kind))

    def described(self, child: int) -> str:
        """Return the keys of a generated table, and the tables to which they refer."""
        table = self.tables[child]
        parts = [f"key {', '.join(table.primary_key)}"] if table.primary_key else ["no key"]
        for key in table.foreign_keys:
            is_parent = child > 0 and key.table == self.tables[self.parents[child - 1]].name
            parts.append(f"{'rows' if is_parent else 'refers'} {'of' if is_parent else 'to'} {key.table} by")
            parts[-1] += f" {', '.join(key.columns)}"
        return "; ".join(["persons"] * (child == 0) + parts)

    def prefixed(self, child: int) -> dict[str, str]:
        """Return the name of each column of a child table in the schema of all tables, by its own name."""
        table = self.tables[child]
        return {name: f"{table.name}.{name}" if child else name for name in table.columns}


def link_tables(tables: Sequence[TableKeys], persons: str) -> Links:
    """Return the tables that are generated, parents before children.

    Raises:
        InputError: If keys form a cycle, refer to unknown tables or columns, or a table is not linked to the persons.
    """
    by_name = {table.name: table for table in tables}
    if persons not in by_name:
        raise InputError.unknown_name("persons", persons, by_name)
    for table in tables:
        _check_keys(table, by_name)
    ordered, lookups = [by_name[persons]], [table for table in tables if table.is_lookup]
    left = [table for table in tables if not table.is_lookup and table.name != persons]
    if by_name[persons].is_lookup or any(not by_name[key.table].is_lookup for key in by_name[persons].foreign_keys):
        raise InputError(
            f"a table of persons without foreign keys: each row of {persons} is one person",
            ", ".join(key.table for key in by_name[persons].foreign_keys) or "a lookup table",
            'Declare the other table as a lookup table ("lookup": true), or name it as the table of persons',
        )
    while left:
        known = {table.name for table in (*ordered, *lookups)}
        ready = [
            table for table in left if {key.table for key in table.foreign_keys} <= known and _is_linked(table, ordered)
        ]
        if not ready:
            raise _unlinked(left, persons)
        ordered += ready
        left = [table for table in left if table not in ready]
    links = Links(tuple(ordered), tuple(lookups))
    if len(ordered) < 2:
        raise InputError(f"a table with a foreign key to {persons}", "none", "Fit a single table as a file")
    for child in range(1, len(ordered)):
        _check_parents(links, child)
    return links


def _is_linked(table: TableKeys, ordered: Sequence[TableKeys]) -> bool:
    return any(key.table == other.name for key in table.foreign_keys for other in ordered)


def _unlinked(left: Sequence[TableKeys], persons: str) -> InputError:
    """Return the error for tables that cannot be ordered: of a cycle of keys, or without a key to the persons."""
    names = {table.name: table for table in left}
    for start in left:
        path = [start.name]
        while (
            following := next((key.table for key in names[path[-1]].foreign_keys if key.table in names), None)
        ) is not None:
            path.append(following)
            if following in path[:-1]:
                cycle = path[path.index(following) :]
                return InputError(
                    "foreign keys without cycles",
                    " -> ".join(cycle),
                    "Remove one of these foreign keys, and skip its columns",
                )
    table = left[0]
    return InputError(
        f"a foreign key from {table.name} to {persons} or to a table of its rows",
        ", ".join(key.table for key in table.foreign_keys) or "none",
        f'Add "foreign_keys", declare {table.name} as a lookup table, or leave it out',
        place=table.name,
    )


def _check_keys(table: TableKeys, by_name: Mapping[str, TableKeys]) -> None:
    with error_context(place=table.name):
        if not table.is_lookup:
            for name in (*table.primary_key, *(name for key in table.foreign_keys for name in key.columns)):
                if name not in table.columns:
                    raise InputError.unknown_name("key column", name, table.columns)
            if table.order is not None and table.order not in table.columns:
                raise InputError.unknown_name("order", table.order, table.columns)
        for key in table.foreign_keys:
            if key.table not in by_name:
                raise InputError.unknown_name("table of a foreign key", key.table, by_name)
            if key.table == table.name:
                raise InputError("foreign keys without cycles", f"{table.name} -> {table.name}", "Skip the key column")
            primary = by_name[key.table].primary_key
            if len(primary) != len(key.columns):
                raise InputError(
                    f"as many columns as the primary key of {key.table}, {', '.join(primary) or 'which has none'}",
                    ", ".join(key.columns),
                    'Set "primary_key" of the other table, or correct the foreign key',
                )


def _check_parents(links: Links, child: int) -> None:
    """Raise an InputError if a table refers to a generated table that is not an ancestor of its rows."""
    names = {links.tables[i].name for i in links.ancestors(child)}
    keys = links.parent_keys(links.tables[child])
    for key in keys:
        if sum(other.table == key.table for other in keys) > 1:
            raise InputError(
                f"one foreign key to {key.table}",
                "several",
                f"Remove all but one and skip their columns, or declare {key.table} as a lookup table",
                place=links.tables[child].name,
                column=key.columns[0],
            )
        if key.table not in names:
            raise InputError(
                f"foreign keys to one of {', '.join(sorted(names))}, or to a lookup table",
                key.table,
                f"Remove this foreign key and skip its columns, or declare {key.table} as a lookup table",
                place=links.tables[child].name,
                column=key.columns[0],
            )


@dataclass(frozen=True)
class LinkedSchema:
    """Schemas of several tables, with their keys."""

    persons: str
    """Name of the table with one row per person; a private fit protects persons with all of their rows."""
    keys: tuple[TableKeys, ...]
    schemas: Mapping[str, Schema]
    """Schema of each table that is not a lookup table, by its name."""
    max_rows: int = MAX_ROWS
    """Maximum number of rows per person, in all tables together."""

    def __post_init__(self) -> None:
        _ = self.links, self.flat

    @cached_property
    def links(self) -> Links:
        """Generated tables in order, parents before children."""
        return link_tables(self.keys, self.persons)

    @cached_property
    def flat(self) -> Schema:
        """Schema of one table of all rows, in which the columns of other tables than persons have qualified names."""
        links = self.links
        for i, table in enumerate(links.tables):
            _check_identifiers(links, i, self.schemas[table.name])
        of_persons = self.schemas[links.persons.name]
        unit = next(name for name in links.persons.primary_key if isinstance(of_persons.by_name[name], Identifier))
        names = {*of_persons.names, *(f"{t.name}.{name}" for t in links.children for name in t.columns)}
        kind = TYPE_COLUMN
        while kind in names:
            kind += "_"
        kinds = [f"{table.name}{' (next)' * is_next}" for table, is_next in links.kinds]
        columns: list[Column] = [*of_persons.columns, Categorical(kind, tuple(kinds))]
        rules: list[Rule] = [*of_persons.rules]
        for i, table in enumerate(links.children, 1):
            qualified = links.prefixed(i)
            columns += [renamed_column(column, qualified) for column in self.schemas[table.name].columns]
            columns += [] if table.gap is None else [replace(table.gap, name=table.gap_name)]
            rules += [renamed_rule(rule, qualified) for rule in self.schemas[table.name].rules]
        attributes = tuple(column.name for column in of_persons.modelled if column.name != unit)
        history = HistorySchema(None, attributes, max(2, links.longest(self.max_rows)), 0)
        return Schema(tuple(columns), of_persons.outside, unit, tuple(rules), history=history)


def _check_identifiers(links: Links, i: int, schema: Schema) -> None:
    """Raise an InputError if a key column is not generated as a key."""
    table = links.tables[i]
    copied = {name for key in links.parent_keys(table) for name in key.columns}
    order = None if table.order is None else schema.by_name[table.order]
    is_whole = isinstance(order, Numerical | Datetime) and order.missing is None
    if table.gap is not None and not is_whole:
        raise InputError(
            "numbers or dates without missing cells in the column of the order, whose differences are modelled",
            "missing cells" if isinstance(order, Numerical | Datetime) else "another kind of column",
            'Remove "gap"', place=table.name, column=table.order,
        )  # fmt: skip
    if table.gap is not None and any(len(rule.names) > 1 and table.order in rule.names for rule in schema.rules):
        raise InputError(
            "rules without the column of the order, since differences from row to row are modelled",
            str(table.order), 'Remove the rule, or "gap"', place=table.name, column=table.order,
        )  # fmt: skip
    if i == 0 and not table.primary_key:
        raise InputError("a primary key of the table of persons", "none", 'Set "primary_key"', place=table.name)
    own = [name for name in table.primary_key if name not in copied]
    for name in copied:
        if not isinstance(schema.by_name[name], Identifier):
            raise _no_identifier(table, name)
    if own and not any(isinstance(schema.by_name[name], Identifier) for name in own):
        raise _no_identifier(table, own[-1])


def _no_identifier(table: TableKeys, name: str) -> InputError:
    return InputError(
        "an identifier, since generated rows get new keys",
        "another kind of column",
        'Declare the column as {"kind": "identifier"}',
        place=table.name,
        column=name,
    )


def separate_schema(flat: Schema, links: Links) -> LinkedSchema:
    """Return the schema of several tables from the schema of one table of all rows and the keys."""
    schemas = {}
    for i, part in enumerate(schemas_of(flat, links)):
        names = {qualified: name for name, qualified in links.prefixed(i).items()}
        columns = tuple(renamed_column(column, names) for column in part.columns)
        rules = tuple(renamed_rule(rule, names) for rule in part.rules)
        schemas[links.tables[i].name] = Schema(columns, part.outside, rules=rules)
    assert flat.history is not None
    return LinkedSchema(links.persons.name, (*links.tables, *links.lookups), schemas, flat.history.max_rows)


def schemas_of(flat: Schema, links: Links) -> Iterator[Schema]:
    """Yield the schema of each generated table, with the names of the schema of all tables and without history."""
    for i, table in enumerate(links.tables):
        names = {*links.prefixed(i).values()} if i else {*table.columns}
        rules = tuple(rule for rule in flat.rules if {*rule.names} <= names)
        yield Schema(tuple(column for column in flat.columns if column.name in names), flat.outside, rules=rules)
