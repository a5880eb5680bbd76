"""How a model sees values of another model: the elements of molecules by their symbols, columns by their names."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State
from feller.data.crystals.modality import Crystals
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.molecules.modality import Molecules
from feller.data.points.points import Points

Sight = Callable[[State], State]
"""Values of their modality, perhaps not rounded -> states of ours."""


def translation(theirs: Modality, ours: Modality) -> Sight:
    """Return what turns values of one modality into states of another, with a gradient where values have one.

    Raises:
        UsageError: If the other cannot see such values; says why.
    """
    if isinstance(theirs, Labelled):
        inner = translation(theirs.pictures, ours)
        return lambda values: inner(values["image"])
    if isinstance(theirs, Molecules | Crystals) and type(theirs) is type(ours):
        return _of_elements(theirs, ours)
    if isinstance(theirs, Points) and isinstance(ours, Points):
        return _of_columns(theirs, ours)
    if isinstance(theirs, Images) and isinstance(ours, Images) and theirs.shape == ours.shape:
        share = ours.levels / theirs.levels
        return lambda values: ours.code.encode(values.float() * share, ours.levels)
    if _bare(theirs) == _bare(ours):
        return ours.encode
    raise UsageError(f"it knows {ours.called}{_size(ours)}, and these are {theirs.called}{_size(theirs)}")


def _of_elements(theirs: Any, ours: Any) -> Sight:
    unknown = [symbol for symbol in theirs.elements if symbol not in ours.elements]
    if unknown:
        raise UsageError(f"it has not seen {', '.join(unknown)}, which these {theirs.called} may have")
    places = torch.tensor([ours.elements.index(symbol) for symbol in theirs.elements])

    def see(values: State) -> State:
        element: Tensor = values["element"]
        return ours.encode({**values, "element": places.to(element.device)[element]})

    return see


def _of_columns(theirs: Points, ours: Points) -> Sight:
    missing = [name for name in ours.columns if name not in theirs.columns]
    if missing:
        raise UsageError(f"it needs the column {missing[0]!r}, and these have {', '.join(theirs.columns)}")
    places = [theirs.columns.index(name) for name in ours.columns]
    return lambda values: ours.encode(values[:, places])


def _bare(modality: Any) -> Modality:
    """Return a modality without the names of classes."""
    return replace(modality, classes=()) if hasattr(modality, "classes") else modality


def _size(modality: Modality) -> str:
    return f" of {modality.width} x {modality.height} x {modality.channels}" if isinstance(modality, Images) else ""
