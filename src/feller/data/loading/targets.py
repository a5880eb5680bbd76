"""Prediction targets: properties, columns or labels, which are removed from the values when they are selected."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset, Modality, Target, notes_without_used
from feller.data.points.euclidean_points import Points
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.modality import Table

LABEL = "label"
"""Name of the target that consists of the class labels."""


TARGET_RECIPES = ("regressor", "logistic-private")
"""Names of the recipes that predict a target; the other built-in recipes generate all columns of a table."""


def predicts_target(recipe: str) -> bool:
    """Return True if a recipe can predict a target of a table: if it is in `TARGET_RECIPES`, or a custom recipe."""
    return recipe in TARGET_RECIPES or ":" in recipe


def with_target(data: Dataset, names: tuple[str, ...], recipe: str) -> Dataset:
    """Return data with a target, whose meaning depends on the recipe.

    If the recipe predicts a target, the target is removed from the model's inputs (see `select_target`). If the recipe
    generates a table, the target is the column that reports predict from the other columns.

    Args:
        data: Training data.
        names: Names of the target's properties or columns; empty for no target.
        recipe: Name of the recipe; `auto` is allowed.

    Raises:
        UsageError: If a name is unknown, or several names are given for a table that is generated.
        InputError: If no example has the target, or all have the same value.
    """
    table = data.modality.view(Table)
    if not names:
        return data
    if table is None or predicts_target(recipe):
        return select_target(data, names)
    if len(names) > 1:
        raise UsageError(
            argument="target",
            expected="one column, which the report predicts from the others",
            found=", ".join(names),
            remedy="Choose one, or use a predictive recipe: regressor or logistic-private",
        )
    modelled = [column.name for column in table.schema.modelled]
    if names[0] in {column.name for column in table.schema.columns} - {*modelled}:  # an error would end a search
        note = f"{names[0]} is not modelled; the report predicts {modelled[table.schema.target_index]} from the others"
        return replace(data, notes=(*data.notes, note))
    if names[0] not in modelled:
        raise UsageError.unknown_name("target", names[0], modelled)
    return data.with_modality(replace(table, schema=replace(table.schema, target=names[0])))


def select_target(data: Dataset, names: tuple[str, ...]) -> Dataset:
    """Return data with a prediction target: the properties or columns in `names`, or the class label `label`.

    The target is removed from the values of points and from the conditions; a column of a table with a schema stays in
    the values, but the network ignores it. `label=3,8` keeps only these classes. Examples without the target are
    dropped.

    Raises:
        InputError: If no example has the target, or all have the same value.
    """
    candidates = _candidate_targets(data)
    selected = {
        name: tuple(classes.split(",")) if classes else () for name, _, classes in (n.partition("=") for n in names)
    }
    for name in selected:
        if name not in candidates:
            raise UsageError.unknown_name("target", name, candidates)
    classes = {name: _classes(data.modality, name) for name in selected}
    if len(selected) < len(names) or (any(classes.values()) and len(names) > 1):
        raise UsageError(
            "distinct numeric targets, or a single target with classes", ", ".join(names), argument="target"
        )
    if any(classes.values()):
        target = _target_of_classes(names[0].partition("=")[0], *classes.values(), *selected.values())
    elif any(selected.values()):
        raise UsageError(
            "classes can be selected for a categorical target only; this target is numeric", place=names[0]
        )
    else:
        target = None
    values = _target_values(candidates, tuple(selected), target)
    has_target = torch.stack(list(values.values())).isfinite().all(0)
    if not has_target.any():
        raise InputError(f"no example has {', '.join(names)}", remedy="Choose a target that some examples have")
    num_dropped = len(data) - int(has_target.sum())
    notes = (f"dropped {num_dropped:,} examples without {', '.join(names)}",) if num_dropped else ()
    target = target or _target_of_numbers({name: column[has_target] for name, column in values.items()})
    notes = (*notes_without_used(data, tuple(selected)), *notes)
    labelled = replace(data, properties={**data.properties, **values}, target=target, notes=notes)
    return _drop_target(labelled).subset(has_target.nonzero()[:, 0])


def read_with_target(source: str, modality: Modality, target: Target, size: int | None = None) -> Dataset:
    """Read a data set in the modality of a trained regressor, together with the target that the regressor predicts.

    Examples without the target are dropped.

    Args:
        source: A file, a folder or `example:NAME`.
        modality: Modality of the regressor.
        target: Target of the regressor.
        size: Size limit of the examples, as `longest` of `feller.read`.

    Raises:
        InputError: If the data are missing, damaged or incompatible with the modality, or do not contain the target.
        UsageError: If `source` names an unknown example data set.
    """
    data = read(source, longest=size, like=_modality_with_target(modality, target))
    candidates = _candidate_targets(data)
    absent = [name for name in target.names if name not in candidates]
    if absent:
        raise InputError(f"has no values of the target {', '.join(absent)}, which the evaluation needs", file=source)
    values = _target_values(candidates, target.names, target)
    has_target = torch.stack(list(values.values())).isfinite().all(0)
    labelled = replace(data, properties={**data.properties, **values}, target=target)
    return replace(_drop_target(labelled), modality=modality).subset(has_target.nonzero()[:, 0])


def _candidate_targets(data: Dataset) -> dict[str, Tensor]:
    """Return every column, property or label that can be a prediction target, [n] each; classes as indices."""
    candidates = dict(data.properties)
    modality = data.modality
    if (points := modality.view(Points)) is not None:
        candidates |= {name: data.values[:, i].double() for i, name in enumerate(points.columns)}
    if (table := modality.view(Table)) is not None:
        candidates |= {name: data.values[:, j].double() for j, name in _words(table).items()}
    if getattr(modality, "classes", ()) and LABEL in data.given:
        candidates[LABEL] = data.given[LABEL].double()
    return candidates


def _words(table: Table) -> dict[int, str]:
    return {
        j: column.name for j, column in enumerate(table.schema.modelled) if isinstance(column, Categorical | Boolean)
    }


def _classes(modality: Any, name: str) -> tuple[str, ...]:
    """Return the classes of a target, empty if it is numeric; missing cells have no class."""
    if name == LABEL and getattr(modality, "classes", ()):
        return modality.classes
    if (table := modality.view(Table)) is not None and name in _words(table).values():
        return tuple(table.schema.modelled[table.schema.place(name)].value_names)
    return ()


def _target_of_classes(name: str, classes: tuple[str, ...], selected: tuple[str, ...]) -> Target:
    for label in selected:
        if label not in classes:
            raise UsageError.unknown_name(name, label, classes)
    if selected and len({*selected}) < max(2, len(selected)):
        raise UsageError(f"at least two distinct classes of {name}", ", ".join(selected), argument="target")
    _refuse_constant(name, len(classes) < 2)
    return Target((name,), classes=selected or classes, all_classes=classes if selected else ())


def _target_of_numbers(values: dict[str, Tensor]) -> Target:
    names, columns = tuple(values), torch.stack(list(values.values()))
    for name, column in values.items():
        _refuse_constant(name, bool(column.min() == column.max()))  # by rounding, the deviation may be above 0
    return Target(names, tuple(columns.mean(1).tolist()), tuple(columns.std(1, correction=0).tolist()))


def _refuse_constant(name: str, is_constant: bool) -> None:
    """Raise an InputError if the target `name` is constant."""
    if is_constant:
        raise InputError(
            "a target with at least two different values", "a constant", "Choose another target", argument=name
        )


def _target_values(candidates: dict[str, Tensor], names: tuple[str, ...], target: Target | None) -> dict[str, Tensor]:
    """Return the values of the targets `names`, selected from the candidates.

    For a class target they are indices into `target.classes`, and NaN for examples of other classes.
    """
    if target is None or not target.classes:
        return {name: candidates[name] for name in names}
    all_classes = target.all_classes or target.classes
    indices = [target.classes.index(label) if label in target.classes else math.nan for label in all_classes]
    codes = candidates[names[0]]
    is_known = (codes >= 0) & (codes < len(all_classes))
    targets = torch.tensor(indices, dtype=torch.float64)[codes.where(is_known, 0.0).long()]
    return {names[0]: targets.where(is_known, math.nan)}


def _drop_target(data: Dataset) -> Dataset:
    """Remove the target from the values, and labels from the conditions."""
    modality: Any = data.modality
    names = () if data.target is None else data.target.names
    if modality.view(Points) is not None:
        indices = [i for i, name in enumerate(modality.columns) if name not in names]
        if not indices:
            raise UsageError(
                f"all columns are targets ({', '.join(names)}); no column is left to predict the targets from"
            )
        modality = replace(
            modality,
            columns=tuple(modality.columns[i] for i in indices),
            mean=tuple(modality.mean[i] for i in indices),
            scale=tuple(modality.scale[i] for i in indices),
        )
        data = replace(data, values=data.values[:, indices])
    if getattr(modality, "classes", ()):
        modality = replace(modality, classes=())
    return replace(data, modality=modality, given={name: cond for name, cond in data.given.items() if name != LABEL})


def _modality_with_target(modality: Any, target: Target) -> Modality:
    """Return the modality for reading files that contain the target besides the data, as a column or class label."""
    if target.classes and modality.view(Table) is None:
        return replace(modality, classes=target.all_classes or target.classes)
    if modality.view(Points) is not None:
        columns, mean, scale = modality.columns, modality.mean, modality.scale
        return replace(
            modality, columns=(*columns, *target.names), mean=(*mean, *target.means), scale=(*scale, *target.scales)
        )
    return modality
