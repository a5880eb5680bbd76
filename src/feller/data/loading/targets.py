"""Prediction targets: properties, columns or labels, which are removed from the values when they are selected."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset, Modality, Target, unused_properties_note
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
    """Return data with a target to predict (see `select_target`) or, for generated tables, the target of the reports.

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
    chosen = {
        name: tuple(classes.split(",")) if classes else () for name, _, classes in (n.partition("=") for n in names)
    }
    for name in chosen:
        if name not in candidates:
            raise UsageError.unknown_name("target", name, candidates)
    classes = {name: _classes(data.modality, name) for name in chosen}
    if len(chosen) < len(names) or (any(classes.values()) and len(names) > 1):
        raise UsageError(
            "distinct numeric targets, or a single target with classes", ", ".join(names), argument="target"
        )
    if any(classes.values()):
        target = _target_of_classes(names[0].partition("=")[0], *classes.values(), *chosen.values())
    elif any(chosen.values()):
        raise UsageError(
            "classes can be selected for a categorical target only; this target is numeric", place=names[0]
        )
    else:
        target = None
    values = _target_values(candidates, tuple(chosen), target)
    there = torch.stack(list(values.values())).isfinite().all(0)
    if not there.any():
        raise InputError(f"no example has {', '.join(names)}", remedy="Choose a target that some examples have")
    lost = len(data) - int(there.sum())
    notes = (f"dropped {lost:,} examples without {', '.join(names)}",) if lost else ()
    target = target or _target_of_numbers({name: numbers[there] for name, numbers in values.items()})
    notes = (*_notes_without(data, tuple(chosen)), *notes)
    found = replace(data, properties={**data.properties, **values}, target=target, notes=notes)
    return _drop_target(found).subset(there.nonzero()[:, 0])


def _notes_without(data: Dataset, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return the notes of a dataset; the note on unused properties no longer lists the targets."""
    all_unused = unused_properties_note(data.properties)
    unused = unused_properties_note([name for name in data.properties if name not in chosen])
    return tuple(new for note in data.notes for new in (unused if note in all_unused else (note,)))


def read_with_target(source: str, modality: Modality, target: Target, size: int | None = None) -> Dataset:
    """Read a data set in the modality of a trained regressor, together with the target that the regressor predicts.

    Raises:
        InputError: If the data are missing, damaged or incompatible with the modality, or do not contain the target.
        UsageError: If `source` names an unknown example data set.
    """
    data = read(source, longest=size, like=_modality_with_target(modality, target))
    candidates = _candidate_targets(data)
    gone = [name for name in target.names if name not in candidates]
    if gone:
        raise InputError(f"has no values of the target {', '.join(gone)}, which the evaluation needs", file=source)
    values = _target_values(candidates, target.names, target)
    there = torch.stack(list(values.values())).isfinite().all(0)
    found = replace(data, properties={**data.properties, **values}, target=target)
    return replace(_drop_target(found), modality=modality).subset(there.nonzero()[:, 0])


def _candidate_targets(data: Dataset) -> dict[str, Tensor]:
    """Return all possible targets, [n] each; classes as indices."""
    candidates = dict(data.properties)
    kind = data.modality
    if (points := kind.view(Points)) is not None:
        candidates |= {name: data.values[:, i].double() for i, name in enumerate(points.columns)}
    if (table := kind.view(Table)) is not None:
        candidates |= {name: data.values[:, j].double() for j, name in _words(table).items()}
    if getattr(kind, "classes", ()) and LABEL in data.given:
        candidates[LABEL] = data.given[LABEL].double()
    return candidates


def _words(kind: Table) -> dict[int, str]:
    return {j: one.name for j, one in enumerate(kind.schema.modelled) if isinstance(one, Categorical | Boolean)}


def _classes(kind: Any, name: str) -> tuple[str, ...]:
    """Return the classes of a target, empty if it is numeric; missing cells have no class."""
    if name == LABEL and getattr(kind, "classes", ()):
        return kind.classes
    if (table := kind.view(Table)) is not None and name in _words(table).values():
        return tuple(table.schema.modelled[table.schema.place(name)].value_names)
    return ()


def _target_of_classes(name: str, classes: tuple[str, ...], chosen: tuple[str, ...]) -> Target:
    for one in chosen:
        if one not in classes:
            raise UsageError.unknown_name(name, one, classes)
    if chosen and len({*chosen}) < max(2, len(chosen)):
        raise UsageError(f"at least two distinct classes of {name}", ", ".join(chosen), argument="target")
    return Target((name,), classes=chosen or classes, all_classes=classes if chosen else ())


def _target_of_numbers(values: dict[str, Tensor]) -> Target:
    names, numbers = tuple(values), torch.stack(list(values.values()))
    scales = numbers.std(1, correction=0)
    same = [name for name, scale in zip(names, scales.tolist(), strict=True) if not scale > 0]
    if same:
        raise InputError(
            f"all examples have the same {same[0]}; there is nothing to predict", remedy="Remove this target"
        )
    return Target(names, tuple(numbers.mean(1).tolist()), tuple(scales.tolist()))


def _target_values(candidates: dict[str, Tensor], names: tuple[str, ...], target: Target | None) -> dict[str, Tensor]:
    """Return the target values; classes as indices into the target's classes, NaN if not selected."""
    if target is None or not target.classes:
        return {name: candidates[name] for name in names}
    known = target.all_classes or target.classes
    places = [target.classes.index(one) if one in target.classes else math.nan for one in known]
    numbers = candidates[names[0]]
    there = (numbers >= 0) & (numbers < len(known))
    found = torch.tensor(places, dtype=torch.float64)[numbers.where(there, 0.0).long()]
    return {names[0]: found.where(there, math.nan)}


def _drop_target(data: Dataset) -> Dataset:
    """Remove the target from the values, and labels from the conditions."""
    modality: Any = data.modality
    names = () if data.target is None else data.target.names
    if modality.view(Points) is not None:
        kept = [i for i, name in enumerate(modality.columns) if name not in names]
        if not kept:
            raise UsageError(
                f"all columns are targets ({', '.join(names)}); no column is left to predict the targets from"
            )
        modality = replace(
            modality,
            columns=tuple(modality.columns[i] for i in kept),
            mean=tuple(modality.mean[i] for i in kept),
            scale=tuple(modality.scale[i] for i in kept),
        )
        data = replace(data, values=data.values[:, kept])
    if getattr(modality, "classes", ()):
        modality = replace(modality, classes=())
    return replace(data, modality=modality, given={name: part for name, part in data.given.items() if name != LABEL})


def _modality_with_target(modality: Any, target: Target) -> Modality:
    """Return the modality for reading files that contain the target."""
    if target.classes and modality.view(Table) is None:
        return replace(modality, classes=target.all_classes or target.classes)
    if modality.view(Points) is not None:
        columns, mean, scale = modality.columns, modality.mean, modality.scale
        return replace(
            modality, columns=(*columns, *target.names), mean=(*mean, *target.means), scale=(*scale, *target.scales)
        )
    return modality
