"""Examples set aside, the same ones for the same seed."""

from dataclasses import replace

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Given
from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.data.stream import part

FEWEST = 10
"""Examples below which none is set aside."""
FIXED = Draws(0)


def split(dataset: Dataset, share: float = 0.1, draws: Draws = FIXED, *, alike: bool = True) -> tuple[Dataset, Dataset]:
    """Set a share of the examples aside, of each class alike where that is asked; returns (train, held out).

    With 10 examples or more at least one is set aside, with fewer none. Both parts keep the order of the data. Groups
    stay whole: as many are set aside as come nearest to the share, at least one if there are two or more. Of examples
    that are read as they are needed, no more are set aside than memory may hold.

    Raises:
        UsageError: If the share is not in [0, 1).
    """
    check_share(share)
    n, groups = dataset.total, dataset.groups
    wanted = 0 if n < FEWEST or share == 0 else min(max(1, round(share * n)), n - 1)
    if dataset.stream is not None:
        wanted = min(wanted, dataset.stream.most)
    if groups is None:
        given = dataset.given
        if dataset.stream is not None:
            given = {name: known for name, known in dataset.stream.given.items() if name in given}
        order = torch.randperm(n, generator=draws.at("split").shared())
        aside = torch.zeros(n, dtype=torch.bool)
        aside[(order[_place(given, order).argsort(stable=True)] if alike else order)[:wanted]] = True
    else:
        aside = _some_groups(groups, wanted, draws)
    if dataset.stream is not None:
        train = part(dataset.stream, ~aside)
        held = dataset.subset((~aside[dataset.stream.held]).nonzero()[:, 0])
        back = aside.nonzero()[:, 0]
        return replace(held, stream=train), dataset.numbered(back) if len(back) else dataset.subset(back)
    return dataset.subset((~aside).nonzero()[:, 0]), dataset.subset(aside.nonzero()[:, 0])


def check_share(share: float) -> None:
    """Refuse a share of data to set aside that is none.

    Raises:
        UsageError: If it is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise UsageError(f"expected a share from 0 to below 1 to set aside, got {share:g}")


def _some_groups(groups: Tensor, wanted: int, draws: Draws) -> Tensor:
    """Tell which examples are in groups that are set aside, [n]."""
    names, sizes = groups.unique(return_counts=True)
    order = torch.randperm(len(names), generator=draws.at("split").shared())
    if wanted == 0 or len(names) < 2:
        return torch.zeros(len(groups), dtype=torch.bool)
    number = int((sizes[order].cumsum(0) - wanted).abs().argmin()) + 1
    return torch.isin(groups, names[order[: min(number, len(names) - 1)]])


def _place(given: Given, order: Tensor) -> Tensor:
    """Return the place of each example within its class, in the given order, from 0 to 1.

    The lowest places hold a class in proportion to its size, and one that is alone in its class comes late.
    """
    label = given["label"][order] if "label" in given else torch.zeros_like(order)
    place = torch.empty(len(order), dtype=torch.float64)
    for number in label.unique():
        members = (label == number).nonzero()[:, 0]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return place
