"""Reading scenes and letters: what a picture shows, as far as it looks like one of these; exact on those drawn here."""

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
"""Of what a thing would explain of a picture if it were there as drawn, the share that it must explain."""
BATCH_SIZE = 256
"""Pictures that are read at once."""

ThingTemplate = tuple[str, str, Cell, tuple[float, float]]
"""Shape, size, place and shift: a thing but for its colour."""


def read_scenes(pictures: UInt8[Tensor, "n 3 side side"]) -> list[Scene]:
    """Return what pictures show: the ground is the commonest colour; then come up to three things, each where it helps.

    That is matching pursuit: of all things of all colours the one is taken that brings the drawing nearest to the
    picture, in squares of levels; it must explain 40 % of what it would explain in a drawing. The next has another
    colour, and meets no other.
    """
    return [scene for part in pictures.split(BATCH_SIZE) for scene in _read(part)]


def _read(pictures: UInt8[Tensor, "n 3 side side"]) -> list[Scene]:
    templates_, masks = templates(pictures.shape[3])
    masks, names, each = masks.to(pictures.device), list(COLOURS), torch.arange(len(pictures), device=pictures.device)
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=pictures.device)
    levels, ground = pictures.flatten(2).float(), grounds(nearest_colours(pictures))
    error = (levels[:, None] - palette[:, :, None]).square().sum(2)
    step = (palette[ground][:, None] - palette).square().sum(2)  # between a colour and the ground, [n, colours]
    gain = error[each, ground][:, None] - error  # of a pixel that gets a colour in place of the ground's
    things_of: list[list[Thing]] = [[] for _ in range(len(pictures))]
    active = torch.ones_like(each, dtype=torch.bool)
    for _ in range(MAX_THINGS):
        best = (gain @ masks.T).flatten(1).max(1)
        colour, template = best.indices // len(templates_), best.indices % len(templates_)
        active = (
            active & (best.values >= MIN_EXPLAINED * masks[template].sum(1) * step[each, colour]) & (colour != ground)
        )
        for i in active.nonzero()[:, 0].tolist():
            things_of[i].append(Thing(names[colour[i]], *templates_[template[i]]))
        gain = torch.where(masks[template].bool()[:, None], -step[:, :, None], gain)
        gain[each, colour] = -step[each, colour][:, None]
    return [Scene(names[ground[i]], tuple(things)) for i, things in enumerate(things_of)]


@functools.cache
def templates(side: int) -> tuple[list[ThingTemplate], Float[Tensor, "m pixels"]]:
    """Return shape, size, place and shift of all things that there can be, and which pixels each has."""
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
    """Return the shares of scenes in which something was read as it was wanted.

    `ground`, `things` (colour and shape of all, and none besides), `colours` and `shapes` of all things, their `sizes`
    and `places` together with their colours, `count`, and `all` of it.
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
    """Return all that words can say of a scene: everything but the shifts and the order of the things."""
    return scene.ground, frozenset((thing.colour, thing.shape, thing.size, thing.cell) for thing in scene.things)


def nearest_colours(pictures: UInt8[Tensor, "n 3 h w"]) -> Int64[Tensor, "n h w"]:
    """Return for each pixel the number of the nearest colour, in the order of `COLOURS`."""
    levels = pictures.permute(0, 2, 3, 1).float()
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=pictures.device)
    return (palette.square().sum(1) - 2 * levels @ palette.T).argmin(-1)  # less what all colours have in common


def grounds(colours: Int64[Tensor, "n h w"]) -> Int64[Tensor, " n"]:
    """Return the colour that most pixels of each picture have."""
    return F.one_hot(colours.flatten(1), len(COLOURS)).sum(1).argmax(1)


def read_letters(pictures: UInt8[Tensor, "n 3 side side"]) -> list[str]:
    """Return the letters that each picture shows: those whose drawing has most pixels as it, in any two colours."""
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
    """Return the word of this length that agrees best: letters do not meet, so each is chosen alone."""
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
    """Return pictures of one size as tokenisers and judges take them."""
    return torch.from_numpy(np.stack(pictures)).movedim(3, 1).contiguous()
