"""The data of the demonstration: pairs to learn from, instructions, and creatures that only a memory knows."""

import pathlib
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.data.examples.creatures import Creature, View, invent, render_creature, views
from feller.data.examples.instructions import drawing_pairs, instructions, scene_pairs
from feller.data.examples.scenes import FEW, FEW_HELD_OUT, SIDE, Scene, check_side
from feller.data.examples.write_documents import Picture, Written, check_empty, png, write_documents, write_pairs
from feller.data.files.sample_folder import tile

LEAST = 20
"""Pairs to train on, at least."""
EVERY = 8
"""Of so many pairs, the first ones show scenes, then come creatures, and the last is a map or a word."""
CREATURES = 4
"""Creatures among them."""
SEEN, KEPT = 4, 2
"""Views of each creature that are in the pairs or in the memory, and others that are kept."""
TAIL = 10
"""Creatures of the head for each of the tail."""
HELD_OUT = 10
"""Training documents for each that is held out."""
SHOWN = 120
"""Pictures in the overview."""


@dataclass(frozen=True, eq=False)
class Demonstration:
    """All documents, by the folder that they are written to, and what they show.

    Scenes and words of those held out are in none of the others; their maps may be, which do not show all colours.
    """

    documents: dict[str, list[Written]]
    """pairs, instructions, memory, tail, pairs-held-out and instructions-held-out."""
    scenes: dict[str, list[Scene]]
    """Those of pairs and pairs-held-out, without what is between them."""
    head: list[Creature]
    """Creatures of the pairs."""
    tail: list[Creature]
    """Creatures that no pair shows, and no instruction."""
    asked: list[View]
    """What the pictures in `tail` show: creatures of the tail, as the memory has none of them."""


def demonstration(n: int, draws: Draws, side: int = SIDE) -> Demonstration:
    """Draw n pairs to train on, of which a half show creatures, n instructions, and what goes with them.

    Raises:
        UsageError: If n is below 20, or the side no multiple of 16.
    """
    if n < LEAST:
        raise UsageError(f"expected {LEAST} pairs or more, got {n}; 8000 are usual")
    check_side(side)
    heads = -(-n * CREATURES // (EVERY * SEEN))
    tails = max(1, heads // TAIL)
    creatures = invent(tails + heads, draws.named("creatures"))
    tail, head = creatures[:tails], creatures[tails:]  # so that the first of the tail is the same for every n
    seen = {one.name: views(one, SEEN + KEPT, draws.named("views", one.name)) for one in creatures}
    scenes, pairs = {}, {}
    for part, count, first, of in (("pairs", n, 0, FEW), ("pairs-held-out", n // HELD_OUT, SEEN, FEW_HELD_OUT)):
        shown = CREATURES * (count // EVERY)
        drawn = [written_view(seen[head[i % heads].name][first + i // heads], side) for i in range(shown)]
        others = drawing_pairs(count // EVERY, draws.named(part, "drawings"), side, of)
        scenes[part], written = scene_pairs(count - len(drawn) - len(others), draws.named(part), side, of)
        pairs[part] = _mixed(written, drawn, others)
    known = [view for one in tail for view in seen[one.name][:SEEN]]
    asked = [view for one in tail for view in seen[one.name][SEEN:]]
    return Demonstration(
        {
            "pairs": pairs["pairs"],
            "instructions": instructions(n, draws.named("instructions"), side, FEW),
            "memory": [written_view(view, side) for view in known],
            "tail": [written_view(view, side) for view in asked],
            "pairs-held-out": pairs["pairs-held-out"],
            "instructions-held-out": instructions(
                n // HELD_OUT, draws.named("instructions-held-out"), side, FEW_HELD_OUT
            ),
        },
        scenes,
        head,
        tail,
        asked,
    )


def written_view(view: View, side: int) -> Written:
    """Write a view as a caption and its picture."""
    return Written((view.caption(), Picture(render_creature(view, side))))


def _mixed(scenes: list[Written], creatures: list[Written], others: list[Written]) -> list[Written]:
    """Put creatures and one of the others behind every few scenes."""
    mixed, few, many = [], iter(scenes), iter(creatures)
    for other in others:
        mixed += [*islice(few, EVERY - CREATURES - 1), *islice(many, CREATURES), other]
    return mixed + list(few)


def write_demonstration(out: pathlib.Path, n: int, seed: int, side: int = SIDE) -> dict[str, Any]:
    """Write the demonstration to a new folder, and say how many documents each folder in it has.

    Raises:
        UsageError: If n or the side is too small.
        InputError: If the folder is not empty, or the disk refuses.
    """
    check_empty(out)
    drawn = demonstration(n, Draws(seed).named("demonstration"), side)
    for name, documents in drawn.documents.items():
        write = write_documents if name.startswith("instructions") else write_pairs
        write(documents, out / name)
    firsts = (one for documents in drawn.documents.values() for one in documents[:SHOWN])
    shown = [picture for one in firsts for picture in one.pictures()]
    try:
        (out / "overview.png").write_bytes(png(np.asarray(tile(np.stack(shown[:: max(1, len(shown) // SHOWN)])))))
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror or error}); free the disk") from error
    counts = {name: len(documents) for name, documents in drawn.documents.items()}
    return {"out": str(out), **counts, "creatures": len(drawn.head), "creatures_of_the_tail": len(drawn.tail)}
