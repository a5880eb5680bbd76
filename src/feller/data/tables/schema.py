"""What is public about a table: its columns, and which cells they may have."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from feller.core.errors import InputError
from feller.core.serialization import nearest
from feller.data.tables.categorical import Boolean, Categorical
from feller.data.tables.column import Column, Modelled
from feller.data.tables.constraints import Constraint, Pair, pairs_of
from feller.data.tables.numerical import Numerical
from feller.data.tables.unmodelled_columns import Derived, Identifier, Untold

ROW = "row"
"""The unit of a table in which each row is one person's, and all of theirs."""
MOST_SOURCES = 10_000
"""Numbers from which a column may be derived, at most."""


@dataclass(frozen=True)
class Schema:
    """All columns of a table in their order."""

    columns: tuple[Column, ...]
    outside: Literal["refuse", "clip"] = "refuse"
    """What is done with a cell that its column may not hold, and a row that breaks a rule."""
    unit: str = ROW
    """What privacy is given to: `row`, each of which is one person's, and all of theirs; or the column that tells
    people apart, of each of whom the first row is learned."""
    rules: tuple[Constraint, ...] = ()
    target: str | None = None
    """Column that others are used to tell, by which reports judge what a table is worth; by default the last."""

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two columns are called {twice!r}; rename one")
        if any(not name or name != name.strip() for name in names):
            raise InputError("every column has a name, without blanks around it; give it one")
        if self.unit != ROW and not any(isinstance(c, Identifier) and c.name == self.unit for c in self.columns):
            raise InputError(
                f'expected the unit "{ROW}", or the identifier that tells people apart, got {self.unit!r}; describe'
                " that column as an identifier"
            )
        if not self.modelled:
            raise InputError("no column is left that a model could learn; describe one as categorical or numerical")
        for column in self.columns:
            if isinstance(column, Derived):
                self._check_derived(column)
        _ = self.pairs, self.aim

    @cached_property
    def modelled(self) -> tuple[Modelled, ...]:
        """The columns with codes."""
        return tuple(column for column in self.columns if isinstance(column, Modelled))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def untold(self) -> tuple[str, ...]:
        """Names of the columns that noise could not tell, which no row that is made has."""
        return tuple(column.name for column in self.columns if isinstance(column, Untold))

    @property
    def made(self) -> tuple[Column, ...]:
        """The columns of rows that are made."""
        return tuple(column for column in self.columns if not isinstance(column, Untold))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of codes of each modelled column."""
        return tuple(column.count for column in self.modelled)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The rules as tables over codes of two modelled columns, which form a forest."""
        return pairs_of(self.rules, self.modelled)

    @cached_property
    def aim(self) -> int:
        """Place of the target among the modelled columns."""
        return len(self.modelled) - 1 if self.target is None else self.place(self.target)

    def place(self, name: str) -> int:
        """Return the place of a column among those modelled.

        Raises:
            InputError: If there is none of that name.
        """
        known = [column.name for column in self.modelled]
        if name not in known:
            raise InputError(f"no model sees a column {name!r}: {nearest(name, known)}")
        return known.index(name)

    def _check_derived(self, column: Derived) -> None:
        source = next((other for other in self.modelled if other.name == column.source), None)
        if not isinstance(source, Categorical | Boolean | Numerical):
            raise InputError(
                f"column {column.name!r}: expected a source that is categorical, boolean or numerical, got"
                f" {column.source!r}: {nearest(column.source, [other.name for other in self.modelled])}"
            )
        lacking = next((cell for cell in _possible_cells(source) if cell not in column.mapping), None)
        if lacking is not None:
            raise InputError(
                f"column {column.name!r}: the mapping says nothing for {source.name} = {lacking!r}; add it"
            )


def _possible_cells(column: Categorical | Boolean | Numerical) -> Iterator[str]:
    """Yield all cells that a column can have."""
    if isinstance(column, Numerical):
        first, last = column.levels.starts[0], column.levels.last
        if last - first >= MOST_SOURCES:
            raise InputError(f"column {column.name!r} has too many numbers for another to follow from each of them")
        yield from map(column.form.write, range(first, last + 1))
    else:
        yield from column.own_names
    if column.missing is not None:
        yield column.missing
