"""Data of which a network is to tell something: it is set aside, so that values do not hold it."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from feller.data.modality import Dataset, Modality
from feller.data.read import read
from feller.data.rows.points import Points
from feller.data.target import Target
from feller.errors import InputError, UsageError
from feller.record import nearest

LABEL = "label"
"""What the class of an example is called."""


def aimed(data: Dataset, names: tuple[str, ...]) -> Dataset:
    """Return data with a target: numbers that files tell beside the values, columns of a table, or `label`.

    A column that is asked for is no value any more, and labels are neither values nor conditions. Examples that lack
    what is asked for are left out.

    Raises:
        UsageError: If nothing is called so.
        InputError: If no example has it, or all have the same.
    """
    told = _told(data)
    for name in names:
        if name not in told:
            there = nearest(name, list(told)) if told else "they tell nothing beside their values"
            raise UsageError(f"nothing that is told of these data is called {name!r}: {there}")
    if len(set(names)) < len(names) or (LABEL in names and len(names) > 1):
        raise UsageError(f"expected different numbers, or {LABEL} alone, got {', '.join(names)}")
    wanted = {name: told[name] for name in names}
    there = torch.stack(list(wanted.values())).isfinite().all(0)
    if not there.any():
        raise InputError(f"no example has {', '.join(names)}; name what some have")
    lost = len(data) - int(there.sum())
    notes = (f"examples left out, since they lack {', '.join(names)}: {lost:,}",) if lost else ()
    target = _target(data.modality, {name: numbers[there] for name, numbers in wanted.items()})
    found = replace(data, properties={**data.properties, **wanted}, target=target, notes=(*data.notes, *notes))
    return _without(found).subset(there.nonzero()[:, 0])


def read_aimed(source: str, modality: Modality, target: Target, size: int | None = None) -> Dataset:
    """Read other data of which the same is told, for a model that was trained on such of a modality.

    Raises:
        InputError: If they are missing, damaged, unlike the modality, or do not tell it.
        UsageError: If there is no such example.
    """
    data = read(source, size=size, like=_whole(modality, target))
    told = _told(data)
    gone = [name for name in target.names if name not in told]
    if gone:
        raise InputError(f"{source} does not tell {', '.join(gone)} of its examples, which is what they are judged by")
    wanted = {name: told[name] for name in target.names}
    there = torch.stack(list(wanted.values())).isfinite().all(0)
    found = replace(data, properties={**data.properties, **wanted}, target=target)
    return replace(_without(found), modality=modality).subset(there.nonzero()[:, 0])


def _told(data: Dataset) -> dict[str, Tensor]:
    """Return all that could be a target, [n] each."""
    told = dict(data.properties)
    kind = data.modality
    if isinstance(kind, Points):
        told |= {name: data.values[:, i].double() for i, name in enumerate(kind.columns)}
    if getattr(kind, "classes", ()) and LABEL in data.given:
        told[LABEL] = data.given[LABEL].double()
    return told


def _target(modality: Any, wanted: dict[str, Tensor]) -> Target:
    names = tuple(wanted)
    if names == (LABEL,) and getattr(modality, "classes", ()):
        return Target(names, classes=modality.classes)
    numbers = torch.stack(list(wanted.values()))
    scales = numbers.std(1, correction=0)
    same = [name for name, scale in zip(names, scales.tolist(), strict=True) if not scale > 0]
    if same:
        raise InputError(f"all examples have the same {same[0]}, so there is nothing to learn; leave it out")
    return Target(names, tuple(numbers.mean(1).tolist()), tuple(scales.tolist()))


def _without(data: Dataset) -> Dataset:
    """Take the target out of the values, and the labels out of the conditions."""
    modality: Any = data.modality
    names = () if data.target is None else data.target.names
    if isinstance(modality, Points):
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


def _whole(modality: Any, target: Target) -> Modality:
    """Return the modality that files with the target have."""
    if target.classes:
        return replace(modality, classes=target.classes)
    if isinstance(modality, Points):
        columns, mean, scale = modality.columns, modality.mean, modality.scale
        return replace(
            modality,
            columns=(*columns, *target.names),
            mean=(*mean, *target.means),
            scale=(*scale, *target.scales),
        )
    return modality
