"""Data of which a network is to tell something: it is set aside, so that values do not hold it."""

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
"""What the class of an example is called."""


TARGET_RECIPES = ("regressor", "logistic-private")
"""Recipes of networks that tell a target; other recipes of ours draw rows of a table, the target among them."""


def predicts_target(recipe: str) -> bool:
    """Tell whether the rows of a table are learned by a recipe that may tell a target: these, or code of one's own."""
    return recipe in TARGET_RECIPES or ":" in recipe


def with_target(data: Dataset, names: tuple[str, ...], recipe: str) -> Dataset:
    """Return data with a target, see `select_target`; of a drawn table it is what reports tell from other columns.

    Args:
        data: What is learned from.
        names: Of the target; none for none.
        recipe: Its name, auto among them.

    Raises:
        UsageError: If nothing is called so, or a table that is drawn has several.
        InputError: If no example has it, or all have the same.
    """
    table = data.modality.view(Table)
    if not names:
        return data
    if table is None or predicts_target(recipe):
        return select_target(data, names)
    if len(names) > 1:
        raise UsageError(
            argument="target",
            expected="one column, which the report tells from the others",
            found=", ".join(names),
            remedy="Name one, or take the recipe regressor or logistic-private, which tell and do not draw",
        )
    modelled = [column.name for column in table.schema.modelled]
    if names[0] in {column.name for column in table.schema.columns} - {*modelled}:  # refused, a search were in vain
        note = (
            f"no model sees {names[0]}, so that the report tells {modelled[table.schema.target_index]} from the others"
        )
        return replace(data, notes=(*data.notes, note))
    if names[0] not in modelled:
        raise UsageError.unknown_name("target", names[0], modelled)
    return data.with_modality(replace(table, schema=replace(table.schema, target=names[0])))


def select_target(data: Dataset, names: tuple[str, ...]) -> Dataset:
    """Return data with a target: numbers that files tell beside the values, columns of a table, or `label`.

    A column of points that is asked for is no value any more, and labels are neither values nor conditions; a column
    of a table with a schema stays in its rows, and is for the network to leave out. Of classes some may be chosen, as
    in `label=3,8`. Examples that lack what is asked for are left out.

    Raises:
        InputError: If no example has it, or all have the same.
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
        raise UsageError("different numbers, or one that has classes alone", ", ".join(names), argument="target")
    if any(classes.values()):
        target = _target_of_classes(names[0].partition("=")[0], *classes.values(), *chosen.values())
    elif any(chosen.values()):
        raise UsageError("only of classes some can be chosen, and these are numbers", place=names[0])
    else:
        target = None
    values = _target_values(candidates, tuple(chosen), target)
    there = torch.stack(list(values.values())).isfinite().all(0)
    if not there.any():
        raise InputError(f"no example has {', '.join(names)}", remedy="Name what some have")
    lost = len(data) - int(there.sum())
    notes = (f"examples left out, since they lack {', '.join(names)}: {lost:,}",) if lost else ()
    target = target or _target_of_numbers({name: numbers[there] for name, numbers in values.items()})
    notes = (*_notes_without(data, tuple(chosen)), *notes)
    found = replace(data, properties={**data.properties, **values}, target=target, notes=notes)
    return _drop_target(found).subset(there.nonzero()[:, 0])


def _notes_without(data: Dataset, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return the notes of data; the one on numbers that are not learned no longer names those that are chosen."""
    all_unused = unused_properties_note(data.properties)
    unused = unused_properties_note([name for name in data.properties if name not in chosen])
    return tuple(new for note in data.notes for new in (unused if note in all_unused else (note,)))


def read_with_target(source: str, modality: Modality, target: Target, size: int | None = None) -> Dataset:
    """Read other data of which the same is told, for a model that was trained on such of a modality.

    Raises:
        InputError: If they are missing, damaged, unlike the modality, or do not tell it.
        UsageError: If there is no such example.
    """
    data = read(source, longest=size, like=_modality_with_target(modality, target))
    candidates = _candidate_targets(data)
    gone = [name for name in target.names if name not in candidates]
    if gone:
        raise InputError(
            f"does not tell {', '.join(gone)} of its examples, which is what they are judged by", file=source
        )
    values = _target_values(candidates, target.names, target)
    there = torch.stack(list(values.values())).isfinite().all(0)
    found = replace(data, properties={**data.properties, **values}, target=target)
    return replace(_drop_target(found), modality=modality).subset(there.nonzero()[:, 0])


def _candidate_targets(data: Dataset) -> dict[str, Tensor]:
    """Return all that could be a target, [n] each; of classes their numbers."""
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
    """Return the places and the names of columns of words."""
    return {j: one.name for j, one in enumerate(kind.schema.modelled) if isinstance(one, Categorical | Boolean)}


def _classes(kind: Any, name: str) -> tuple[str, ...]:
    """Return the classes of what is called so; none where it is a number. Missing cells are of no class."""
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
        raise UsageError(f"two different classes of {name} or more", ", ".join(chosen), argument="target")
    return Target((name,), classes=chosen or classes, all_classes=classes if chosen else ())


def _target_of_numbers(values: dict[str, Tensor]) -> Target:
    names, numbers = tuple(values), torch.stack(list(values.values()))
    scales = numbers.std(1, correction=0)
    same = [name for name, scale in zip(names, scales.tolist(), strict=True) if not scale > 0]
    if same:
        raise InputError(f"all examples have the same {same[0]}, so there is nothing to learn", remedy="Leave it out")
    return Target(names, tuple(numbers.mean(1).tolist()), tuple(scales.tolist()))


def _target_values(candidates: dict[str, Tensor], names: tuple[str, ...], target: Target | None) -> dict[str, Tensor]:
    """Return what is told of some names; of classes their places among those of the target, or not-a-number."""
    if target is None or not target.classes:
        return {name: candidates[name] for name in names}
    known = target.all_classes or target.classes
    places = [target.classes.index(one) if one in target.classes else math.nan for one in known]
    numbers = candidates[names[0]]
    there = (numbers >= 0) & (numbers < len(known))
    found = torch.tensor(places, dtype=torch.float64)[numbers.where(there, 0.0).long()]
    return {names[0]: found.where(there, math.nan)}


def _drop_target(data: Dataset) -> Dataset:
    """Take the target out of the values, and the labels out of the conditions."""
    modality: Any = data.modality
    names = () if data.target is None else data.target.names
    if modality.view(Points) is not None:
        kept = [i for i, name in enumerate(modality.columns) if name not in names]
        if not kept:
            raise UsageError(f"all columns are asked for ({', '.join(names)}), so there is none to tell them by")
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
    """Return the modality that files with the target have."""
    if target.classes and modality.view(Table) is None:
        return replace(modality, classes=target.all_classes or target.classes)
    if modality.view(Points) is not None:
        columns, mean, scale = modality.columns, modality.mean, modality.scale
        return replace(
            modality, columns=(*columns, *target.names), mean=(*mean, *target.means), scale=(*scale, *target.scales)
        )
    return modality
