"""Class labels: conversion between class names and integer ids; notes on changes made while reading data."""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond
from feller.data.loading.raw import RawExamples

Line = TypeVar("Line", InputError, UsageError)
LABEL_NAMES = ("label", "class")
"""Column names that hold class labels."""
TEXT_NAME = "text"
"""Column or field name that holds texts."""


def _order(name: str) -> tuple[float, str]:
    """Return the sort key of a class name: whole numbers first, by value, then names alphabetically."""
    return (float(name) if name.removeprefix("-").isdecimal() else math.inf, name)


def encode_labels(labels: list[str], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert class names of examples to ids; return (ids [n], sorted class names). Errors name the source `where`.

    InputError if there are over 100 classes and more than half as many classes as examples.
    """
    names = sorted(set(labels), key=_order)
    if len(names) > 100 and len(names) > len(labels) / 2:
        raise InputError(
            "a label column with few classes",
            f"{len(names)} different labels for {len(labels)} examples",
            "Rename the label column, or leave it out",
            place=where,
        )
    ids = {name: i for i, name in enumerate(names)}
    return np.array([ids[label] for label in labels]), tuple(names)


def class_number(value: str | int, classes: Sequence[str]) -> int | None:
    """Return the id of a class given by name or id; None if it is unknown.

    If a class name is a number, numbers count as names, not as ids.
    """
    text = str(value)
    if text in classes:
        return classes.index(text)
    is_id = text.isdecimal() and len(text) < 10 and not any(name.removeprefix("-").isdecimal() for name in classes)
    return int(text) if is_id and int(text) < len(classes) else None


def unknown_class(kind: type[Line], argument: str, name: object, classes: Sequence[str]) -> Line:
    """Return an error for an unknown class label.

    Args:
        kind: Class of the error.
        argument: Name of the argument that holds the label, for the message.
        name: Unknown label.
        classes: Valid class names in the order of their ids, which the message lists.
    """
    is_numeric = all(class_name.removeprefix("-").isdecimal() for class_name in classes)
    hint = "" if is_numeric or not classes else f", or a number from 0 to {len(classes) - 1}"
    return kind.unknown_name(argument, name, classes, alternatives=hint, in_order=not is_numeric)


def checked_class_ids(
    kind: type[Line], argument: str, ids: Tensor, num_classes: int, n: int | None = None
) -> Int64[Tensor, " n"]:
    """Return class ids, or the null value `num_classes`, as int64.

    Args:
        kind: Class of the error if an id is not an integer in this range, or the shape is not [n].
        argument: Name of the argument that holds the ids, for the error.
        ids: Class ids.
        num_classes: Number of classes.
        n: Number of ids; None for any.
    """
    is_integer = not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    has_shape = ids.ndim == 1 and n in (None, len(ids))
    if not is_integer or not has_shape or bool(((ids < 0) | (ids > num_classes)).any()):
        found = ids.tolist() if is_integer and has_shape else f"{ids.dtype} {list(ids.shape)}"
        count, shape = ("", "n") if n is None else (f"{n} ", n)
        raise kind(f"{count}integers from 0 to {num_classes - 1}, shape [{shape}]", found, argument=argument)
    return ids.long()


def renumbered(label: Tensor, theirs: Sequence[str], ours: Sequence[str]) -> Tensor:
    """Convert label ids, indices into the class names `theirs`, to indices into `ours`.

    An id of len(theirs) or more means "no label", and becomes len(ours).

    InputError if an example has a class that `ours` does not contain.
    """
    new_ids = [class_number(name, ours) for name in theirs]
    if unknown := [i for i in label.unique().tolist() if i < len(theirs) and new_ids[i] is None]:
        raise unknown_class(InputError, "class", theirs[unknown[0]], ours)
    id_map = [-1 if class_id is None else class_id for class_id in new_ids]
    return torch.tensor([*id_map, len(ours)], device=label.device)[label.clamp(max=len(theirs))]


def relabel(raw: RawExamples, classes: tuple[str, ...]) -> Cond:
    """Return the labels of raw examples as ids in a modality's classes; empty if `raw` or the modality has no labels.

    InputError if an example has a class that the modality does not contain.
    """
    if raw.labels is None or not classes:
        return {}
    return {"label": renumbered(torch.from_numpy(np.asarray(raw.labels, dtype=np.int64)), raw.classes, classes)}


def labels_to_write(given: Cond, classes: tuple[str, ...]) -> Tensor | None:
    """Return the label ids if every example has a label, otherwise None; an id beyond the classes means "no label"."""
    label = given.get("label") if classes else None
    return None if label is None or bool((label >= len(classes)).any()) else label.cpu().long()


def label_arrays(given: Cond, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the label arrays of an .npz, `labels` and `classes`; empty if not every example has a label."""
    label = labels_to_write(given, classes)
    return {} if label is None else {"labels": label.numpy(), "classes": np.array(classes)}


def label_names(given: Cond, classes: tuple[str, ...]) -> list[str] | None:
    """Return the class name of each example; None if not every example has a label."""
    label = labels_to_write(given, classes)
    return None if label is None else [classes[i] for i in label.tolist()]


class NoteCounter:
    """Counter of examples to which a note applies, such as "single atoms left out: {}".

    All examples with the same template are reported in one note.
    """

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, template: str, name: str) -> None:
        """Record a note on example `name`; `{}` in the template becomes the number of examples and the first name."""
        self._names.setdefault(template, []).append(name)

    def notes(self) -> tuple[str, ...]:
        """Return the notes as texts, one per template."""
        return tuple(
            template.format(f"{len(names):,}, the first is {names[0]}") for template, names in self._names.items()
        )


def abbreviated(things: Sequence[str], count: int = 10) -> str:
    """Join the first `count` items with commas; an ellipsis stands for the other items."""
    return ", ".join(things[:count]) + (", ..." if len(things) > count else "")
