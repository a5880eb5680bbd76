"""Rows to plant in a training: unlike all others, so that a model has no reason to know them but that they were there.

Those of tables, pictures and numbers are made up; of other kinds they are held-out examples.
"""

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Given
from feller.core.rng import Draws
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.data.points.points import Points
from feller.data.tables.constraints import mended
from feller.data.tables.mixed import Mixed
from feller.data.tables.modality import Table


def strangers(train: Dataset, held_out: Dataset, n: int, draws: Draws) -> Dataset:
    """Return so many rows to plant.

    Cells of tables and levels of pictures are drawn evenly from all that may stand there, each by itself; numbers from
    the range of their column.

    Args:
        train: What was learned from.
        held_out: Others of the same law.
        n: Rows.
        draws: Source of all randomness.

    Raises:
        UsageError: If rows cannot be made up, and fewer are held out.
    """
    kind = train.modality
    made = _made_up(kind, train, n, draws)
    if made is not None:
        given, told = kind.complete(_conditions(kind, n, draws)), _targets(train, n, draws)
        return Dataset(made, given, kind, properties=told, target=train.target)
    if n > len(held_out):
        raise UsageError(
            f"held-out examples are planted of {kind.called}, and there are {len(held_out):,} of them: take --canaries"
            f" {len(held_out):,} or fewer"
        )
    return held_out.subset(torch.randperm(len(held_out), generator=draws.at("held out").shared())[:n])


def _made_up(kind: Modality, train: Dataset, n: int, draws: Draws) -> Tensor | None:
    if isinstance(kind, Table | Mixed):
        return _cells(kind.table if isinstance(kind, Mixed) else kind, n, draws)
    if isinstance(kind, Images):
        shape = (n, *train.values.shape[1:])
        return draws.at("levels").integers(kind.levels + 1, shape).to(train.values.dtype)
    if isinstance(kind, Points):
        low, high = train.values.amin(0), train.values.amax(0)
        return low + (high - low) * draws.at("numbers").uniform((n, len(low)), torch.float64).to(low.dtype)
    return None


def _cells(kind: Table, n: int, draws: Draws) -> Tensor:
    """Draw codes evenly from each column; those that break a rule are moved to the nearest that keep all."""
    counts = torch.tensor(kind.counts)
    u = draws.at("cells").uniform((n, len(counts)), torch.float64)
    codes = (u * counts).long()
    if not kind.schema.pairs:
        return codes
    return torch.from_numpy(mended(codes.numpy(), kind.schema.pairs, kind.counts))


def _conditions(kind: Modality, n: int, draws: Draws) -> Given:
    return {name: draws.at(f"a {name}").integers(len(classes), (n,)) for name, classes in kind.conditions.items()}


def _targets(train: Dataset, n: int, draws: Draws) -> dict[str, Tensor]:
    """Draw what a model tells of rows: a class evenly, numbers from among those of other rows."""
    if train.target is None:
        return {}
    count, drawn = len(train.target.classes), {}
    for name in train.target.names:
        draw, known = draws.at(f"the target {name}"), train.properties[name]
        drawn[name] = draw.integers(count, (n,)).double() if count else known[draw.integers(len(known), (n,))]
    return drawn
