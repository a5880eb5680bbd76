"""Rooms without a way through: found before any path is."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from scipy.ndimage import label
from torch import Tensor

from feller.app.workflows.bridges.bridges_populations import Populations
from feller.app.workflows.bridges.cost_names import frame_of, pictures_of
from feller.control.bridges.costs import Cost
from feller.control.bridges.costs.walls import Frame, read_grey
from feller.evaluation.report.wording import percent

PIXELS = 2048
"""Of the longer side of pictures, at most, in which ways through are looked for."""
UNEVEN = 0.05
"""Share of members who must change from one closed part of free space to another that is worth a warning, though
each part has members of both populations."""
WARNING = "warning: "
"""Begins a note of what is likely to be wrong."""


def closed(
    texts: Sequence[str],
    cost: Cost,
    crowd: Populations,
    frame: tuple[float, ...],
    values: Callable[[Tensor], Tensor],
) -> list[str]:
    """Warn where members can become those of the next population through walls alone; states have `values`."""
    where = frame_of(texts, frame)
    if where is None or not cost.obstacles:
        return []
    notes, parts = [], _parts(texts, cost, crowd, where)
    for (before, a), (after, b) in itertools.pairwise(zip(crowd.names, crowd.states, strict=True)):
        share = _parted(parts, values(a), values(b), where)
        if share:
            notes.append(
                f"{WARNING}from {before} to {after} there is no way but through walls for {percent(share)} of the"
                " members; if there is a door, it must be lighter than middle grey, and a pixel wide at least"
            )
    return notes


def _parts(texts: Sequence[str], cost: Cost, crowd: Populations, frame: Frame) -> Int[np.ndarray, "h w"]:
    """Number the parts of free space that no door joins, from 1, at the pixels within a frame; 0 is wall."""
    left, right, low, high = frame
    shapes = [read_grey(picture).shape for picture in pictures_of(texts)]
    h, w = (min(max(sides), PIXELS) for sides in zip(*shapes, strict=True))
    x, y = (a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in ((left, right, w), (low, high, h)))
    places = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
    states = crowd.modality.encode(places)
    return np.asarray(label(~cost.blocked(states).reshape(h, w).numpy())[0])


def _parted(parts: Int[np.ndarray, "h w"], a: Tensor, b: Tensor, frame: Frame) -> float:
    """Return the share of the members of a population that cannot be joined with another within parts of free space.

    Parts that have members of both, but not as many of each, count only where many are too many.
    """
    left, right, low, high = frame
    shares = []
    for x in (a, b):
        column, row = (
            ((x[:, k].double().numpy() - begin) / (end - begin) * n).astype(int).clip(0, n - 1)
            for k, (begin, end, n) in enumerate(((left, right, parts.shape[1]), (low, high, parts.shape[0])))
        )
        shares.append(np.bincount(parts[row, column], minlength=parts.max() + 1) / len(x))
    first, second = shares
    alone = (first[1:] * (second[1:] == 0)).sum() + (second[1:] * (first[1:] == 0)).sum()
    moved = float(np.abs(first - second)[1:].sum() / 2)
    return moved if alone or moved > UNEVEN else 0.0
