"""Recognition of scenes and letters by template matching; exact on rendered pictures."""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from feller_papers.scenes.drawing import CELLS, FONT, MAX_THINGS, SIZES, Cell, Scene, Thing, letter_mask
from feller_papers.scenes.drawing import MAX_THINGS as MAX_LETTERS
from feller_papers.scenes.shapes import COLOURS, SHAPES, shape_mask

MIN_EXPLAINED = 0.4
"""Required squared error reduction of a thing, as a fraction of that in its own rendering."""
BATCH_SIZE = 256
"""Pictures per batch."""

ThingTemplate = tuple[str, str, Cell, tuple[float, float]]
"""Shape, size, cell and shift of a thing."""


def read_scenes(pictures: UInt8[Tensor, "n 3 side side"]) -> list[Scene]:
    """Return the scenes of pictures: the ground is the most frequent colour; up to three things are matched.

    This is matching pursuit: each step adds the thing with the largest reduction of the squared error, at least 40 % of
    its reduction in a rendered picture. Things do not share colours and do not overlap.
    """
    return [scene for part in pictures.split(BATCH_SIZE) for scene in _read(part)]


def _read(pictures: UInt8[Tensor, "n 3 side side"]) -> list[Scene]:
    thing_templates, masks = templates(pictures.shape[3])
    masks, names, each = masks.to(pictures.device), list(COLOURS), torch.arange(len(pictures), device=pictures.device)
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=pictures.device)
    levels, ground = pictures.flatten(2).float(), grounds(nearest_colours(pictures))
    error = (levels[:, None] - palette[:, :, None]).square().sum(2)
    step = (palette[ground][:, None] - palette).square().sum(2)  # between a colour and the ground, [n, colours]
    gain = error[each, ground][:, None] - error  # of a pixel that gets a colour in place of the ground's
    things_per_picture: list[list[Thing]] = [[] for _ in range(len(pictures))]
    active = torch.ones_like(each, dtype=torch.bool)
    for _ in range(MAX_THINGS):
        best = (gain @ masks.T).flatten(1).max(1)
        colour, template = best.indices // len(thing_templates), best.indices % len(thing_templates)
        active = (
            active & (best.values >= MIN_EXPLAINED * masks[template].sum(1) * step[each, colour]) & (colour != ground)
        )
        for i in active.nonzero()[:, 0].tolist():
            things_per_picture[i].append(Thing(names[colour[i]], *thing_templates[template[i]]))
        gain = torch.where(masks[template].bool()[:, None], -step[:, :, None], gain)
        gain[each, colour] = -step[each, colour][:, None]
    return [Scene(names[ground[i]], tuple(things)) for i, things in enumerate(things_per_picture)]


@functools.cache
def templates(side: int) -> tuple[list[ThingTemplate], Float[Tensor, "m pixels"]]:
    """Return all templates of things, and their masks."""
    things, masks, seen = [], [], set()
    shifts = [(down / 4, right / 4) for down in range(-4, 5) for right in range(-4, 5)]
    for size, cell, shift in itertools.product(SIZES, CELLS, shifts):
        box = Thing("", "", size, cell, shift).box(side)
        if box in seen:
            continue
        seen.add(box)
        left, top, right, bottom = box
        for shape in SHAPES:
            mask = torch.zeros(side, side)
            mask[top:bottom, left:right] = torch.from_numpy(shape_mask(shape, right - left)).float()
            things.append((shape, size, cell, shift))
            masks.append(mask.flatten())
    return things, torch.stack(masks)


def agreement(expected: Sequence[Scene], predicted: Sequence[Scene]) -> dict[str, float]:
    """Return the accuracy of each attribute.

    Attributes: `ground`, `count`, `colours`, `shapes`, `things` (colours with shapes), `sizes` and `places` (each with
    colours), and `all`.
    """
    attributes = {
        "ground": lambda scene: scene.ground,
        "count": lambda scene: len(scene.things),
        "colours": lambda scene: {thing.colour for thing in scene.things},
        "shapes": lambda scene: sorted(thing.shape for thing in scene.things),
        "things": lambda scene: {(thing.colour, thing.shape) for thing in scene.things},
        "sizes": lambda scene: {(thing.colour, thing.size) for thing in scene.things},
        "places": lambda scene: {(thing.colour, thing.cell) for thing in scene.things},
        "all": content,
    }
    return {
        name: sum(attribute(a) == attribute(b) for a, b in zip(expected, predicted, strict=True)) / len(expected)
        for name, attribute in attributes.items()
    }


def content(scene: Scene) -> tuple[str, frozenset[tuple[str, str, str, Cell]]]:
    """Return a scene without shifts and order of things."""
    return scene.ground, frozenset((thing.colour, thing.shape, thing.size, thing.cell) for thing in scene.things)


def nearest_colours(pictures: UInt8[Tensor, "n 3 h w"]) -> Int64[Tensor, "n h w"]:
    """Return the index of the nearest colour of each pixel, in the order of `COLOURS`."""
    levels = pictures.permute(0, 2, 3, 1).float()
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=pictures.device)
    return (palette.square().sum(1) - 2 * levels @ palette.T).argmin(-1)  # without the term that all colours share


def grounds(colours: Int64[Tensor, "n h w"]) -> Int64[Tensor, " n"]:
    """Return the most frequent colour of each picture."""
    return F.one_hot(colours.flatten(1), len(COLOURS)).sum(1).argmax(1)


def read_letters(pictures: UInt8[Tensor, "n 3 side side"]) -> list[str]:
    """Return the word of each picture: the one whose mask agrees in most pixels, for any two colours."""
    side, colours = pictures.shape[3], nearest_colours(pictures)
    ground = torch.cat([colours[:, 0], colours[:, -1], colours[:, :, 0], colours[:, :, -1]], 1).mode(1).values
    return [
        max(
            (_best(ink, length, side) for length in range(1, MAX_LETTERS + 1)),
            key=lambda word: _num_equal(word, side, ink),
        )
        for ink in (colours != ground[:, None, None]).cpu().numpy()
    ]


def _best(ink: Bool[np.ndarray, "side side"], length: int, side: int) -> str:
    """Return the best word of a length; letters do not overlap, so each is chosen separately."""
    word = length * "A"
    for i in range(length):
        word = max(
            (word[:i] + letter + word[i + 1 :] for letter in FONT),
            key=lambda candidate: _num_equal(candidate, side, ink),
        )
    return word


def _num_equal(word: str, side: int, ink: Bool[np.ndarray, "side side"]) -> int:
    return int((letter_mask(word, side) == ink).sum())


def stack_pictures(pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> UInt8[Tensor, "n 3 h w"]:
    """Return pictures as a tensor, channels first."""
    return torch.from_numpy(np.stack(pictures)).movedim(3, 1).contiguous()
