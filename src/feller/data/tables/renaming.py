"""Columns and rules of a schema with other names of columns."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from feller.data.tables.column import Column
from feller.data.tables.constraints import Constraint
from feller.data.tables.dependent_columns import Copy, Gap, Sum
from feller.data.tables.rules import Combination, MissingTogether, Order, Rule, Unique
from feller.data.tables.unmodelled_columns import Derived


def renamed_column(column: Column, names: Mapping[str, str]) -> Column:
    """Return a column with new names of itself and of the columns from which it is computed."""
    changed: dict[str, Any] = {"name": names[column.name]}
    if isinstance(column, Copy | Derived):
        changed["source"] = names[column.source]
    elif isinstance(column, Gap):
        changed["after"] = names[column.after]
    elif isinstance(column, Sum):
        changed["parts"] = tuple(names[part] for part in column.parts)
    return replace(column, **changed)  # pyrefly: ignore


def renamed_rule(rule: Rule, names: Mapping[str, str]) -> Rule:
    """Return a rule with new names of its columns."""
    if isinstance(rule, Constraint):
        return replace(rule, when=names[rule.when], then=names[rule.then])
    if isinstance(rule, Order):
        return Order(names[rule.lower], names[rule.upper])
    if isinstance(rule, MissingTogether):
        return MissingTogether(tuple(names[name] for name in rule.together))
    if isinstance(rule, Unique):
        return Unique(names[rule.unique])
    assert isinstance(rule, Combination)
    return replace(rule, columns=(names[rule.columns[0]], names[rule.columns[1]]))
