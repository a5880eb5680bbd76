"""Recognition of creatures: the nearest view, whole or half."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller_papers.scenes.creatures import BODY, GRID_SIZE, MIDDLE, PARTS, Creature, View
from feller_papers.scenes.drawing import SIDE_MULTIPLE
from feller_papers.scenes.shapes import COLOURS


def nearest_views(pictures: UInt8[Tensor, "n 3 side side"], creatures: Sequence[Creature]) -> list[View]:
    """Return the nearest view of each picture, in squared colour distance.

    Exact on rendered views. Chance accuracy is `1 / len(creatures)`.

    Raises:
        UsageError: If there are no creatures, or the side is no multiple of 16.
    """
    side = pictures.shape[3]
    if not creatures or side % SIDE_MULTIPLE:
        raise UsageError("creatures and pictures of 16, 32, ... pixels", f"{len(creatures)} and {side}")
    dots = F.avg_pool2d(pictures.float(), side // GRID_SIZE)
    nearest = _Nearest.empty(len(pictures), pictures.device)
    for ground, colour in COLOURS.items():
        candidates = [i for i, creature in enumerate(creatures) if ground in creature.grounds]
        if not candidates:
            continue
        level = torch.tensor(colour, dtype=torch.float32, device=pictures.device)[:, None, None]
        error = (dots - level).square().sum(1)
        patterns = _patterns([creatures[i] for i in candidates], pictures.device, level)
        inside = (dots - level)[:, :, MIDDLE, MIDDLE]
        for number, rows in enumerate(PARTS.values()):
            patch, pattern = inside[:, :, rows].flatten(1), patterns[:, :, rows].flatten(1)
            outside = error.sum((1, 2)) - error[:, MIDDLE, MIDDLE][:, rows].sum((1, 2))
            distance = outside[:, None] + torch.cdist(patch, pattern).square()
            best = distance.min(1)
            index = torch.tensor(candidates, device=pictures.device)[best.indices]
            nearest = nearest.update(best.values, index, list(COLOURS).index(ground), number)
    return [
        View(creatures[i], list(COLOURS)[ground], list(PARTS)[part])
        for i, ground, part in torch.stack([nearest.index, nearest.ground, nearest.part], 1).tolist()
    ]


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Nearest view so far of each picture."""

    distance: Tensor
    index: Tensor
    ground: Tensor
    part: Tensor

    @classmethod
    def empty(cls, n: int, device: torch.device) -> "_Nearest":
        zeros = torch.zeros(n, dtype=torch.long, device=device)
        return cls(torch.full((n,), torch.inf, device=device), zeros, zeros, zeros)

    def update(self, distance: Tensor, index: Tensor, ground: int, part: int) -> "_Nearest":
        closer = distance < self.distance
        return _Nearest(
            torch.where(closer, distance, self.distance),
            torch.where(closer, index, self.index),
            self.ground.masked_fill(closer, ground),
            self.part.masked_fill(closer, part),
        )


def _patterns(creatures: Sequence[Creature], device: torch.device, ground: Tensor) -> Float[Tensor, "m 3 rows columns"]:
    """Return the colours of creatures minus the ground."""
    patterns = torch.tensor([creature.pattern for creature in creatures], device=device)[:, None]
    body, mark = (
        torch.tensor([COLOURS[getattr(creature, part)] for creature in creatures], dtype=torch.float32, device=device)
        for part in ("body", "mark")
    )
    colours = torch.where(patterns == BODY, body[:, :, None, None], mark[:, :, None, None]) - ground
    return torch.where(patterns == 0, 0.0, colours)
