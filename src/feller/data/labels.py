"""Class labels: words of files to integers and back, and notes on what was read."""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond
from feller.data.loading.raw import RawExamples

Line = TypeVar("Line", InputError, UsageError)
LABEL_NAMES = ("label", "class")
"""Names of the column that becomes the condition."""
TEXT_NAME = "text"
"""Name of the column, or field, that holds the texts."""


def _order(name: str) -> tuple[float, str]:
    """Put whole numbers first, by size, then words, by alphabet."""
    return (float(name) if name.removeprefix("-").isdecimal() else math.inf, name)


def encode_labels(labels: list[str], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn the labels of examples into positions and the names of classes.

    InputError if nearly every example has its own.
    """
    names = sorted(set(labels), key=_order)
    if len(names) > 100 and len(names) > len(labels) / 2:
        raise InputError(
            f"{len(names)} different labels for {len(labels)} examples; a label names few classes: give that column"
            " another name, or leave it out",
            place=where,
        )
    position = {name: i for i, name in enumerate(names)}
    return np.array([position[label] for label in labels]), tuple(names)


def class_number(value: str | int, classes: Sequence[str]) -> int | None:
    """Return the position of a class that is named, or counted where no name is a whole number; None of no class."""
    text = str(value)
    if text in classes:
        return classes.index(text)
    counts = text.isdecimal() and len(text) < 10 and not any(name.removeprefix("-").isdecimal() for name in classes)
    return int(text) if counts and int(text) < len(classes) else None


def unknown_class(kind: type[Line], argument: str, name: object, classes: Sequence[str]) -> Line:
    """Return the error of what is no class, which lists names in the order of their numbers."""
    numbers = all(one.removeprefix("-").isdecimal() for one in classes)
    more = "" if numbers or not classes else f", or a number from 0 to {len(classes) - 1}"
    return kind.unknown_name(argument, name, classes, alternatives=more, in_order=not numbers)


def renumbered(label: Tensor, theirs: Sequence[str], ours: Sequence[str]) -> Tensor:
    """Number labels by other classes; what is beyond theirs, "not given", is beyond ours.

    InputError if an example has a class that the others do not know.
    """
    numbers = [class_number(name, ours) for name in theirs]
    if strange := [i for i in label.unique().tolist() if i < len(theirs) and numbers[i] is None]:
        raise unknown_class(InputError, "class", theirs[strange[0]], ours)
    lookup = [-1 if number is None else number for number in numbers]
    return torch.tensor([*lookup, len(ours)], device=label.device)[label.clamp(max=len(theirs))]


def relabel(raw: RawExamples, classes: tuple[str, ...]) -> Cond:
    """Number the labels of a file by the classes of a modality; nothing where either has none.

    A whole number is a name where names are whole numbers, else a position. InputError if the file has a class that the
    modality does not know.
    """
    if raw.labels is None or not classes:
        return {}
    return {"label": renumbered(torch.from_numpy(np.asarray(raw.labels, dtype=np.int64)), raw.classes, classes)}


def labels_to_write(given: Cond, classes: tuple[str, ...]) -> Tensor | None:
    """Return the labels if every example has one; a label beyond the classes stands for "not given"."""
    label = given.get("label") if classes else None
    return None if label is None or bool((label >= len(classes)).any()) else label.cpu().long()


def label_arrays(given: Cond, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz that hold labels; none where there are none."""
    label = labels_to_write(given, classes)
    return {} if label is None else {"labels": label.numpy(), "classes": np.array(classes)}


def label_names(given: Cond, classes: tuple[str, ...]) -> list[str] | None:
    """Return the name of the class of each example; None where there are none."""
    label = labels_to_write(given, classes)
    return None if label is None else [classes[i] for i in label.tolist()]


class NoteCounter:
    """Names of examples, by what was said of them."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, template: str, name: str) -> None:
        """Say something of an example: a sentence with {} where the number of such examples and the first stand."""
        self._names.setdefault(template, []).append(name)

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for all that was said, with the number and the first of each."""
        return tuple(
            template.format(f"{len(names):,}, the first is {names[0]}") for template, names in self._names.items()
        )


def abbreviated(things: Sequence[str], count: int = 10) -> str:
    """Return the first of some things, with dots where there are more."""
    return ", ".join(things[:count]) + (", ..." if len(things) > count else "")
